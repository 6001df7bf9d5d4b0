// SPDX-License-Identifier: Apache-2.0
//! Fills a frame. Everything that a colour tells is told in words or marks as well.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use super::{
    Live, Phase,
    panes::{self, mark},
    screen::{Pager, Pane},
    update::selected,
};
use crate::{
    analysis::ProcessRow,
    model::Colour,
    trace::escape,
    view::{command, count, when},
};

/// The smallest screen that has room for something.
const SMALLEST: (u16, u16) = (40, 8);
/// The least that a pane can have: titles and two rows.
const SHORTEST: u16 = 3;
/// After so long the recorder, which writes each second, may be gone.
const SILENT: Duration = Duration::from_secs(5);
const KEYS: &str = "q quit  space freeze  f filter  / search  s sort  Tab pane  Enter open  ? help";

/// Draws all of it.
pub fn draw(live: &Live, frame: &mut Frame) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        let text = format!("too small: {width} columns and {height} lines are needed");
        for (y, part) in (area.y..area.bottom()).zip(text.as_bytes().chunks(area.width.max(1).into())) {
            put(frame, area, y, Line::raw(String::from_utf8_lossy(part)));
        }
        return;
    }
    put(frame, area, area.y, Line::styled(fill(&title(live), area.width), Modifier::REVERSED));
    put(frame, area, area.y + 1, state(live));
    put(frame, area, area.y + 2, verdicts(live, area.width));
    put(frame, area, area.bottom() - 1, foot(live, area.width));
    let inner = Rect { y: area.y + 3, height: area.height - 4, ..area };
    match &live.screen.pager {
        Some(pager) => draw_pager(pager, frame, inner),
        None => draw_panes(live, frame, inner),
    }
}

/// What is traced.
fn title(live: &Live) -> String {
    let processes = &live.picture.processes;
    let name = |row: &ProcessRow| match row.pid {
        0 => command(&row.command),
        pid => format!("pid {pid} {}", command(without_folder(&row.command))),
    };
    match &processes[..] {
        [] => " tt-buftrace live".to_owned(),
        [one] => format!(" tt-buftrace live  {}", name(one)),
        [first, ..] => {
            let ended = processes.iter().filter(|row| row.end.is_some()).count();
            format!(" tt-buftrace live  {} processes, {ended} of them ended; {}", processes.len(), name(first))
        }
    }
}

/// A command without the folder of its program, which would fill the line.
fn without_folder(command: &str) -> &str {
    let program = command.split(' ').next().unwrap_or(command);
    &command[program.rfind('/').map_or(0, |slash| slash + 1)..]
}

/// How the recording goes.
fn state(live: &Live) -> Line<'static> {
    let (screen, picture) = (&live.screen, &live.picture);
    let mut spans = vec![Span::styled(format!(" {}", phase(live)), Modifier::BOLD)];
    if let Some(at) = live.watched.frozen_at() {
        spans.push(Span::raw("  "));
        spans.push(Span::styled(format!("FROZEN at {}", at_seconds(at)), Modifier::REVERSED));
    }
    spans.push(Span::raw("  "));
    spans.push(match picture.losses.iter().fold(0_u64, |sum, loss| sum.saturating_add(loss.events)) {
        0 => Span::raw("none lost"),
        lost => {
            let causes: Vec<&str> = picture.losses.iter().map(|loss| loss.cause.as_str()).collect();
            let text = format!("{lost} LOST ({})", escape(&causes.join(", ")));
            Span::styled(text, style(Colour::Red, screen.colours).add_modifier(Modifier::REVERSED))
        }
    });
    if !picture.problems.is_empty() {
        spans.push(Span::styled(format!("  {}: p", count(picture.problems.len() as u64, "problem")), Modifier::BOLD));
    }
    spans.push(Span::raw(format!("  {} events", picture.events)));
    if matches!(screen.phase, Phase::Recording | Phase::Following) && !has_ended(live) {
        let [allocations, frees] = picture.pace;
        spans.push(Span::raw(format!("  {allocations:.1} allocs/s  {frees:.1} frees/s")));
    }
    if let Some(output) = &screen.output {
        spans.push(Span::raw(format!("  to {}", escape(output))));
    }
    Line::from(spans)
}

fn phase(live: &Live) -> String {
    match &live.screen.phase {
        Phase::Waiting(why) => format!("waiting: {}", escape(why)),
        Phase::Stopping => "stopping".to_owned(),
        Phase::Over(how) => escape(how),
        Phase::Recording | Phase::Following if has_ended(live) => ended(&live.picture.processes),
        Phase::Recording => format!("recording {}", at_seconds(live.picture.last)),
        Phase::Following if live.idle >= SILENT => {
            format!("nothing new for {} s: the recorder may be gone", live.idle.as_secs())
        }
        Phase::Following => format!("following {}", at_seconds(live.picture.last)),
    }
}

fn has_ended(live: &Live) -> bool {
    let processes = &live.picture.processes;
    !processes.is_empty() && processes.iter().all(|row| row.end.is_some())
}

/// How the last process ended.
fn ended(processes: &[ProcessRow]) -> String {
    let Some(last) = processes.iter().max_by_key(|row| row.end) else { return String::new() };
    let at = last.end.map(|end| when(end, last.clock())).unwrap_or_default();
    match last.reason.as_deref() {
        Some("interrupted") => format!("recorded until {at}"),
        reason => format!("{} at {at}", escape(reason.unwrap_or("ended"))),
    }
}

/// How often each verdict was given, the worst first, and how many have no room.
fn verdicts(live: &Live, width: u16) -> Line<'static> {
    const MORE: &str = " … 99 more";
    let mut rows: Vec<_> = live.picture.verdicts.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.colour, row.confirmed)));
    let mut spans = vec![Span::raw(if rows.is_empty() { " no buffer was freed so far" } else { "" })];
    let mut room = usize::from(width);
    for (shown, row) in rows.iter().enumerate() {
        let possible = if row.possible > 0 { format!(" (+{} possible)", row.possible) } else { String::new() };
        let mark = mark(row.colour).trim_end();
        let space = if mark.is_empty() { "" } else { " " };
        let text = format!(" {mark}{space}{} {}{possible} ", row.verdict.name(), row.confirmed);
        let is_last = shown + 1 == rows.len();
        let needed = text.chars().count();
        if room < needed + if is_last { 0 } else { MORE.len() } {
            spans.push(Span::raw(format!(" … {} more", rows.len() - shown)));
            break;
        }
        room -= needed;
        spans.push(Span::styled(text, style(row.colour, live.screen.colours)));
    }
    Line::from(spans)
}

/// What is typed, said, or can be pressed.
fn foot(live: &Live, width: u16) -> Line<'static> {
    let screen = &live.screen;
    let mut text = String::from(" ");
    if let Some(message) = &screen.message {
        text += &format!("{message}  ");
    }
    if let Some(prompt) = &screen.prompt {
        // The end of what is typed is what has to be seen.
        let whole = format!("{text}{}{}_", prompt.question.words(), escape(&prompt.text));
        let hidden = whole.chars().count().saturating_sub(width.into());
        return Line::styled(whole.chars().skip(hidden).collect::<String>(), Modifier::BOLD);
    }
    let filter = live.watched.filter.told();
    if !filter.is_empty() {
        text += &format!("ONLY {} (Esc: all)  ", escape(&filter));
    }
    let keys = if screen.pager.is_some() { "q close  ↑↓ scroll  / search  n next" } else { KEYS };
    Line::raw(text + keys)
}

fn draw_panes(live: &Live, frame: &mut Frame, area: Rect) {
    let screen = &live.screen;
    let panes = match screen.zoomed || area.height < SHORTEST * Pane::ALL.len() as u16 {
        true => vec![screen.focus],
        false => Pane::ALL.to_vec(),
    };
    let rows: Vec<_> = panes.iter().map(|&pane| panes::rows(live, pane, area.width.into())).collect();
    let needs: Vec<u16> = rows.iter().map(|rows| rows.rows.len().saturating_add(1).min(999) as u16).collect();
    let mut y = area.y;
    for ((&pane, rows), height) in panes.iter().zip(&rows).zip(heights(area.height, &needs)) {
        draw_pane(live, pane, rows, frame, Rect { y, height, ..area });
        y += height;
    }
}

fn draw_pane(live: &Live, pane: Pane, rows: &panes::Rows, frame: &mut Frame, area: Rect) {
    let focused = live.screen.focus == pane;
    let shown = usize::from(area.height.saturating_sub(1));
    let at = selected(live, pane, &rows.rows);
    let first = (at + 1).saturating_sub(shown);
    let mut about = format!("{} {}", pane as usize + 1, pane.name());
    if rows.rows.len() > shown {
        about += &format!(" {}-{} of {}", first + 1, first + shown, rows.rows.len());
    }
    about += &format!(" by {}", pane.orders()[live.screen.order(pane)]);
    if let (Pane::Sites, Some(since)) = (pane, live.watched.since()) {
        about += &format!(" since {}", at_seconds(since));
    }
    let style_of_titles =
        if focused { Modifier::BOLD | Modifier::REVERSED } else { Modifier::BOLD | Modifier::UNDERLINED };
    put(frame, area, area.y, Line::styled(titles(&rows.titles, &about, area.width), style_of_titles));
    if rows.rows.is_empty() {
        put(frame, Rect { y: area.y + 1, height: area.height - 1, ..area }, area.y + 1, Line::raw("  nothing yet"));
    }
    for (y, (index, row)) in (area.y + 1..area.bottom()).zip(rows.rows.iter().enumerate().skip(first)) {
        let mut look = style(row.colour, live.screen.colours);
        let mut text = row.text.clone();
        if focused && index == at {
            text.replace_range(..text.len().min(1), ">");
            look = look.add_modifier(Modifier::REVERSED);
        }
        put(frame, area, y, Line::styled(text, look));
    }
}

fn draw_pager(pager: &Pager, frame: &mut Frame, area: Rect) {
    let about = format!("line {} of {}", (pager.top + 1).min(pager.lines.len()), pager.lines.len());
    let line = titles(&format!(" {}", escape(&pager.title)), &about, area.width);
    put(frame, area, area.y, Line::styled(line, Modifier::BOLD | Modifier::REVERSED));
    let lines = pager.lines.iter().skip(pager.top).flat_map(|line| wrapped(line, area.width.into()));
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        put(frame, area, y, Line::raw(line));
    }
}

/// A line on several, the further ones indented by a little more than the first.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let indent = line.chars().take_while(|&c| c == ' ').count().min(width / 2);
    let further = " ".repeat(indent + 2);
    let mut lines = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > indent && last + word.trim_end().chars().count() > width {
            lines.push(further.clone());
        }
        for c in word.chars() {
            let full = lines.last().is_some_and(|line| line.chars().count() >= width);
            if full && c == ' ' {
                continue;
            }
            if full {
                lines.push(further.clone());
            }
            lines.last_mut().expect("there is always one").push(c);
        }
    }
    lines
}

/// How high panes are that need so much: each has the least that a pane can have, and what is left goes round.
fn heights(height: u16, needs: &[u16]) -> Vec<u16> {
    let least = SHORTEST.min(height / (needs.len().max(1) as u16));
    let mut heights = vec![least; needs.len()];
    let mut left = height - least * needs.len() as u16;
    while left > 0 {
        let before = left;
        for (height, need) in heights.iter_mut().zip(needs) {
            if *height < *need && left > 0 {
                (*height, left) = (*height + 1, left - 1);
            }
        }
        if left == before {
            break;
        }
    }
    heights
}

/// The titles of columns, with something about the whole at the right end, where there is room.
fn titles(titles: &str, about: &str, width: u16) -> String {
    let mut line = fill(titles, width);
    let room = usize::from(width).saturating_sub(titles.chars().count() + 2);
    let about_width = about.chars().count() + 1;
    if about_width <= room {
        line = line.chars().take(usize::from(width) - about_width).collect();
        line += about;
        line.push(' ');
    }
    line
}

fn fill(text: &str, width: u16) -> String {
    format!("{text:<width$}", width = usize::from(width))
}

fn put(frame: &mut Frame, area: Rect, y: u16, line: Line<'_>) {
    if y < area.bottom() {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
}

fn style(colour: Colour, colours: bool) -> Style {
    match colour {
        Colour::Red if colours => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Colour::Excess if colours => Style::new().fg(Color::Magenta),
        Colour::Yellow if colours => Style::new().fg(Color::Yellow),
        Colour::Red => Style::new().add_modifier(Modifier::BOLD),
        Colour::Excess | Colour::Yellow | Colour::Normal => Style::new(),
    }
}

/// A time in seconds.
pub(super) fn at_seconds(ns: u64) -> String {
    format!("{}.{} s", ns / 1_000_000_000, ns % 1_000_000_000 / 100_000_000)
}
