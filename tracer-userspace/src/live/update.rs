// SPDX-License-Identifier: Apache-2.0
//! What a key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    Ask, Live, detail,
    panes::{self, Row},
    screen::{Pager, Pane, Prompt, Question},
};
use crate::{
    analysis::{DeviceQuery, Filter, Pattern, Query, parse_buffer_type},
    trace::escape,
};

/// How far a page is, in rows.
const PAGE: usize = 10;
/// Most characters that can be typed.
const LONGEST: usize = 200;
/// Wide enough for anything that only its rows count of.
const WIDE: usize = 200;

/// Takes a key; what it asks for beyond the screen is returned.
pub fn update(live: &mut Live, key: KeyEvent) -> Option<Ask> {
    live.screen.message = None;
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Some(Ask::Quit);
    }
    if let Some(prompt) = live.screen.prompt.take() {
        return typed(live, prompt, key);
    }
    match live.screen.pager.take() {
        Some(pager) => {
            live.screen.pager = paged(live, pager, key);
            None
        }
        None => pressed(live, key.code),
    }
}

/// A key for the panes.
fn pressed(live: &mut Live, code: KeyCode) -> Option<Ask> {
    let focus = live.screen.focus;
    match code {
        KeyCode::Char('q') => return Some(Ask::Quit),
        KeyCode::Char(' ') if live.watched.frozen_at().is_some() => live.go_on(),
        KeyCode::Char(' ') => live.freeze(),
        KeyCode::Char('b') => {
            live.watched.forget_freeze();
            live.refresh(live.idle);
        }
        KeyCode::Char('f') => ask(live, Question::Filter, live.watched.filter.told()),
        KeyCode::Char('/') => ask(live, Question::Search, String::new()),
        KeyCode::Char('a') => ask(live, Question::Address, String::new()),
        KeyCode::Char('s') => sort(live),
        KeyCode::Char('z') => live.screen.zoomed = !live.screen.zoomed,
        KeyCode::Char('?' | 'h') => live.screen.open("help".to_owned(), detail::HELP),
        KeyCode::Char('p') => problems(live),
        KeyCode::Char('t') => return timeline_of_row(live),
        KeyCode::Char(digit @ '1'..='4') => live.screen.focus = Pane::ALL[digit as usize - '1' as usize],
        KeyCode::Tab => live.screen.focus = Pane::ALL[(focus as usize + 1) % Pane::ALL.len()],
        KeyCode::BackTab => live.screen.focus = Pane::ALL[(focus as usize + Pane::ALL.len() - 1) % Pane::ALL.len()],
        KeyCode::Esc => live.set_filter(Filter::default()),
        KeyCode::Enter => open_row(live),
        KeyCode::Char('n') => find(live, true),
        KeyCode::Char('N') => find(live, false),
        KeyCode::Up | KeyCode::Char('k') => select(live, |at, _| at.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => select(live, |at, _| at + 1),
        KeyCode::PageUp => select(live, |at, _| at.saturating_sub(PAGE)),
        KeyCode::PageDown => select(live, |at, _| at + PAGE),
        KeyCode::Home | KeyCode::Char('g') => select(live, |_, _| 0),
        KeyCode::End | KeyCode::Char('G') => select(live, |_, last| last),
        _ => {}
    }
    None
}

/// Sorts the pane in focus by the next of its orders.
fn sort(live: &mut Live) {
    let pane = live.screen.focus;
    live.screen.orders[pane as usize] = (live.screen.order(pane) + 1) % pane.orders().len();
}

/// A key for a text; `None` closes it.
fn paged(live: &mut Live, mut pager: Pager, key: KeyEvent) -> Option<Pager> {
    let last = pager.lines.len().saturating_sub(1);
    match key.code {
        KeyCode::Char('q' | '?') | KeyCode::Esc | KeyCode::Enter => return None,
        KeyCode::Char('/') => ask(live, Question::Search, String::new()),
        KeyCode::Char('n') => find_line(live, &mut pager, true),
        KeyCode::Char('N') => find_line(live, &mut pager, false),
        KeyCode::Up | KeyCode::Char('k') => pager.top = pager.top.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => pager.top += 1,
        KeyCode::PageUp => pager.top = pager.top.saturating_sub(PAGE),
        KeyCode::PageDown | KeyCode::Char(' ') => pager.top += PAGE,
        KeyCode::Home | KeyCode::Char('g') => pager.top = 0,
        KeyCode::End | KeyCode::Char('G') => pager.top = last,
        _ => {}
    }
    pager.top = pager.top.min(last);
    Some(pager)
}

/// A key for what is typed.
fn typed(live: &mut Live, mut prompt: Prompt, key: KeyEvent) -> Option<Ask> {
    match key.code {
        KeyCode::Esc => return None,
        KeyCode::Enter => return answered(live, prompt),
        KeyCode::Backspace => drop(prompt.text.pop()),
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => prompt.text.clear(),
        KeyCode::Char(c) if prompt.text.chars().count() < LONGEST => prompt.text.push(c),
        _ => {}
    }
    live.screen.prompt = Some(prompt);
    None
}

fn answered(live: &mut Live, prompt: Prompt) -> Option<Ask> {
    match prompt.question {
        Question::Filter => match Filter::parse(&prompt.text) {
            Ok(filter) => live.set_filter(filter),
            Err(error) => {
                live.screen.say(error);
                live.screen.prompt = Some(prompt);
            }
        },
        Question::Search => {
            live.screen.search = prompt.text.to_lowercase();
            match live.screen.pager.take() {
                Some(mut pager) => {
                    find_line(live, &mut pager, true);
                    live.screen.pager = Some(pager);
                }
                None => find(live, true),
            }
        }
        Question::Address => match parse_address(&prompt.text) {
            Some(address) => return Some(timeline(live, address, memory_of(&live.watched.filter))),
            None => {
                live.screen.say("an address is a number, in decimal or as 0x…".to_owned());
                live.screen.prompt = Some(prompt);
            }
        },
    }
    None
}

fn ask(live: &mut Live, question: Question, text: String) {
    live.screen.prompt = Some(Prompt { question, text });
}

/// Selects another row: `to` has where it is, and the last.
fn select(live: &mut Live, to: impl Fn(usize, usize) -> usize) {
    let rows = panes::rows(live, live.screen.focus, WIDE).rows;
    let Some(last) = rows.len().checked_sub(1) else { return };
    let at = selected(live, live.screen.focus, &rows);
    select_row(live, &rows[to(at, last).min(last)]);
}

fn select_row(live: &mut Live, row: &Row) {
    live.screen.selected[live.screen.focus as usize] = Some(row.key.clone());
}

/// Where the selected row is by now; the first if it is gone.
pub(super) fn selected(live: &Live, pane: Pane, rows: &[Row]) -> usize {
    let key = live.screen.selected[pane as usize].as_ref();
    key.and_then(|key| rows.iter().position(|row| row.key == *key)).unwrap_or(0)
}

/// Selects the next row that has what is searched.
fn find(live: &mut Live, forward: bool) {
    let rows = panes::rows(live, live.screen.focus, WIDE).rows;
    let at = selected(live, live.screen.focus, &rows);
    let names: Vec<&str> = rows.iter().map(|row| row.names.as_str()).collect();
    match next_match(&names, at, &live.screen.search, forward) {
        Some(found) => select_row(live, &rows[found]),
        None => not_found(live, "row"),
    }
}

fn find_line(live: &mut Live, pager: &mut Pager, forward: bool) {
    let lines: Vec<&str> = pager.lines.iter().map(String::as_str).collect();
    match next_match(&lines, pager.top, &live.screen.search, forward) {
        Some(found) => pager.top = found,
        None => not_found(live, "line"),
    }
}

fn not_found(live: &mut Live, what: &str) {
    live.screen.say(match live.screen.search.as_str() {
        "" => "nothing to search: / asks for it".to_owned(),
        search => format!("no {what} has `{}`", escape(search)),
    });
}

/// The next of some texts that has another, in small letters, round about; the one it began at comes last.
fn next_match(texts: &[&str], at: usize, wanted: &str, forward: bool) -> Option<usize> {
    let count = texts.len();
    let nth = |step: usize| if forward { (at + step) % count } else { (at + count - step) % count };
    let matches = |index: &usize| !wanted.is_empty() && texts[*index].to_lowercase().contains(wanted);
    (1..=count).map(nth).find(matches)
}

/// Shows what there is to know of the selected row.
fn open_row(live: &mut Live) {
    let pane = live.screen.focus;
    let rows = panes::rows(live, pane, WIDE).rows;
    let Some(row) = rows.get(selected(live, pane, &rows)) else { return };
    let definitions = live.watched.definitions();
    match pane {
        Pane::Verdicts => {
            let text = detail::finding(&live.picture.findings[row.index], definitions);
            live.screen.open("verdict".to_owned(), &text);
        }
        Pane::Sites => {
            let text = detail::site(&live.picture.sites[row.index], definitions);
            live.screen.open("site".to_owned(), &text);
        }
        Pane::Memory => {
            let memory = &live.picture.memories[row.index];
            let Some(Ok(device)) = memory.device.as_deref().map(DeviceQuery::parse) else {
                return live.screen.say("the device of this memory is not known".to_owned());
            };
            let (device, buffer_type) = (Some(device), parse_buffer_type(&memory.buffer_type).ok());
            live.set_filter(Filter { device, buffer_type, ..live.watched.filter.clone() });
        }
        Pane::Tests => {
            let test = live.picture.tests[row.index].test.as_deref().map(Pattern::new);
            live.set_filter(Filter { test, ..live.watched.filter.clone() });
        }
    }
}

fn timeline_of_row(live: &mut Live) -> Option<Ask> {
    let rows = panes::rows(live, Pane::Verdicts, WIDE).rows;
    if live.screen.focus != Pane::Verdicts || rows.is_empty() {
        live.screen.say("select a verdict for the timeline of its address; a asks for one".to_owned());
        return None;
    }
    let owner = *live.picture.findings[rows[selected(live, Pane::Verdicts, &rows)].index].latest.owner();
    let filter = Filter {
        device: owner.device.map(DeviceQuery::Exactly),
        buffer_type: Some(owner.buffer_type),
        ..Filter::default()
    };
    Some(timeline(live, owner.address, filter))
}

fn timeline(live: &mut Live, address: u64, filter: Filter) -> Ask {
    let only = filter.told();
    let only = if only.is_empty() { "all devices".to_owned() } else { only };
    live.screen.wait(format!("timeline of {address:#x}, {only}"));
    Ask::Timeline(Query { address: Some(address), buffer: None }, filter)
}

/// What a filter says of memories: a timeline is whole in tests and sites.
fn memory_of(filter: &Filter) -> Filter {
    Filter { device: filter.device, buffer_type: filter.buffer_type, ..Filter::default() }
}

fn problems(live: &mut Live) {
    let lines: Vec<String> = live.picture.problems.iter().map(|problem| escape(problem)).collect();
    let text = if lines.is_empty() { "No problems.".to_owned() } else { lines.join("\n") };
    live.screen.open("problems of the recording".to_owned(), &text);
}

fn parse_address(text: &str) -> Option<u64> {
    match text.trim().strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.trim().parse().ok(),
    }
}
