// SPDX-License-Identifier: Apache-2.0
//! The loop around the live view: reads the trace and the keyboard, and draws.

use std::{
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::stop_recording;
use crate::{
    analysis::{Filter, Query, TimelineFold},
    live::{Ask, Live, Phase, draw, update},
    model::{Definitions, Reading},
    trace::{Follower, Look},
    view::{StackChoice, steps},
};

/// How long keys wait at most while a long trace is read.
const AT_A_TIME: Duration = Duration::from_millis(50);
/// How many items are read between two looks at the clock.
const ITEMS: usize = 256;
/// How often the screen changes without a key: more would only cost.
const DRAW: Duration = Duration::from_millis(250);
/// How often the file is looked at, and the recorder heard.
const LOOK: Duration = Duration::from_millis(100);
/// Most steps of a timeline.
const STEPS: usize = 5000;

/// What the recorder tells the view.
#[derive(Debug)]
pub(super) enum News {
    /// There is nothing to record yet, and why.
    Waiting(String),
    /// There is a file.
    Begun,
    /// Something odd.
    Problem(String),
    /// The recording is over, and how it ended.
    Over(String),
}

/// A view and what it shows.
pub(super) struct Watch {
    live: Live,
    /// `None` until there is a file.
    follower: Option<Follower>,
    recorder: Option<Recorder>,
    /// Whether the whole trace was taken to its end.
    ended: bool,
    /// When something came last.
    heard: Instant,
    /// A timeline that is being read.
    timeline: Option<Receiver<String>>,
    /// Set by signals that end a program.
    signal: Arc<AtomicBool>,
}

/// The recording in this process.
struct Recorder {
    news: Receiver<News>,
    path: PathBuf,
    /// Whether the user wants the file.
    keep: bool,
    /// Whether it has ended.
    over: bool,
}

impl Watch {
    /// Prepares the view. From here on signals end it properly.
    pub(super) fn new(phase: Phase) -> Result<Self> {
        let signal = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            signal_hook::flag::register(number, Arc::clone(&signal)).context("failed to watch for signals")?;
        }
        let colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            live: Live::new(phase, colours),
            follower: None,
            recorder: None,
            ended: false,
            heard: Instant::now(),
            timeline: None,
            signal,
        })
    }

    /// Of a trace that is recorded elsewhere.
    pub(super) fn following(mut self, follower: Follower) -> Self {
        self.follower = Some(follower);
        self
    }

    /// Of a recording in this process, which writes to a path.
    pub(super) fn recording(mut self, news: Receiver<News>, path: PathBuf, keep: bool) -> Self {
        self.live.screen.output = path.file_name().filter(|_| keep).map(|name| name.to_string_lossy().into_owned());
        self.recorder = Some(Recorder { news, path, keep, over: false });
        self
    }

    /// Shows it until the user has seen enough.
    pub(super) fn run(mut self) -> Result<()> {
        let mut terminal = ratatui::try_init().context("failed to take over the terminal")?;
        let result = self.watch(&mut terminal);
        ratatui::restore();
        result
    }

    fn watch(&mut self, terminal: &mut DefaultTerminal) -> Result<()> {
        let mut drawn: Option<Instant> = None;
        let mut looked = Instant::now();
        loop {
            let more = self.read()?;
            let mut changed = self.timeline_arrived();
            if event::poll(if more { Duration::ZERO } else { LOOK }).context("failed to read the keyboard")? {
                changed = true;
                if self.take_event()? && self.quit() {
                    return Ok(());
                }
            }
            if self.signal.swap(false, Ordering::Relaxed) && self.quit() {
                return Ok(());
            }
            if !more && looked.elapsed() >= LOOK {
                looked = Instant::now();
                if self.hear()? && self.live.screen.phase == Phase::Stopping {
                    return Ok(());
                }
                self.look()?;
            }
            if changed || drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW) {
                if drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW) {
                    self.live.refresh(self.heard.elapsed());
                    drawn = Some(Instant::now());
                }
                terminal.draw(|frame| draw(&self.live, frame)).context("failed to draw")?;
            }
        }
    }

    /// Takes what is in the file for a moment; whether there may be more.
    fn read(&mut self) -> Result<bool> {
        let Some(follower) = &mut self.follower else { return Ok(false) };
        let begin = Instant::now();
        while begin.elapsed() < AT_A_TIME {
            for _ in 0..ITEMS {
                let Some(item) = follower.next() else { return Ok(false) };
                self.live.watched.item(item);
                self.heard = begin;
            }
        }
        Ok(true)
    }

    /// Looks whether the file has grown, once all of it was read; ends the trace when nothing can come any more.
    fn look(&mut self) -> Result<()> {
        let Some(follower) = self.follower.as_mut().filter(|_| !self.ended) else { return Ok(()) };
        let path = follower.path().display().to_string();
        if follower.look().with_context(|| format!("failed to read {path}"))? == Look::Replaced {
            self.live.watched.restart();
            self.live.screen.say("the trace was written anew, and is read once more".to_owned());
        }
        let over = self.recorder.as_ref().is_some_and(|recorder| recorder.over);
        if over {
            // What it wrote last may have come since the last look.
            follower.by_ref().for_each(|item| self.live.watched.item(item));
        } else if follower.damage().is_some() {
            self.live.screen.phase = Phase::Over("the trace is damaged".to_owned());
        }
        if over || follower.damage().is_some() {
            self.live.watched.end(&path, follower.damage().cloned(), follower.skipped());
            self.ended = true;
        }
        Ok(())
    }

    /// Takes what the recorder says; whether it has just ended.
    fn hear(&mut self) -> Result<bool> {
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| !recorder.over) else { return Ok(false) };
        loop {
            match recorder.news.try_recv() {
                Ok(News::Waiting(why)) if self.follower.is_none() => self.live.screen.phase = Phase::Waiting(why),
                Ok(News::Waiting(_)) => {}
                Ok(News::Problem(problem)) => self.live.screen.say(problem),
                Ok(News::Begun) if self.follower.is_none() => {
                    let path = &recorder.path;
                    let open = Follower::open(path).with_context(|| format!("failed to read {}", path.display()));
                    self.follower = Some(open?);
                    self.live.screen.phase = Phase::Recording;
                    if !recorder.keep {
                        // Without its name it goes on being read and written.
                        fs::remove_file(path).with_context(|| format!("failed to remove {}", path.display()))?;
                    }
                }
                Ok(News::Begun) => {}
                Ok(News::Over(how)) => {
                    recorder.over = true;
                    if self.live.screen.phase != Phase::Stopping {
                        self.live.screen.phase = Phase::Over(how);
                    }
                    return Ok(true);
                }
                Err(TryRecvError::Empty) => return Ok(false),
                // The recorder tells how it ended, unless it panicked.
                Err(TryRecvError::Disconnected) => {
                    recorder.over = true;
                    return Ok(true);
                }
            }
        }
    }

    /// Takes one event of the terminal; whether the user wants to leave.
    fn take_event(&mut self) -> Result<bool> {
        let Event::Key(key) = event::read().context("failed to read the keyboard")? else { return Ok(false) };
        if key.kind == KeyEventKind::Release {
            return Ok(false);
        }
        match update(&mut self.live, key) {
            Some(Ask::Quit) => return Ok(true),
            Some(Ask::Timeline(query, filter)) => self.read_timeline(query, filter)?,
            None => {}
        }
        Ok(false)
    }

    /// Ends the recording, if there is one that goes on; whether the view can end at once.
    fn quit(&mut self) -> bool {
        if self.recorder.as_ref().is_none_or(|recorder| recorder.over) {
            return true;
        }
        if self.live.screen.phase != Phase::Stopping {
            self.live.screen.phase = Phase::Stopping;
            stop_recording();
        }
        false
    }

    /// Has the trace read from its beginning, as far as it is written, for a timeline.
    fn read_timeline(&mut self, query: Query, filter: Filter) -> Result<()> {
        let Some(follower) = &self.follower else {
            self.live.screen.answer("There is no trace yet.");
            return Ok(());
        };
        let trace = follower.again().context("failed to read the trace again")?;
        let (tell, timeline) = channel();
        thread::spawn(move || tell.send(timeline_text(trace, query, filter)));
        self.timeline = Some(timeline);
        Ok(())
    }

    /// Shows a timeline that was read by now.
    fn timeline_arrived(&mut self) -> bool {
        let Some(text) = self.timeline.as_ref().and_then(|timeline| timeline.try_recv().ok()) else { return false };
        self.live.screen.answer(&text);
        self.timeline = None;
        true
    }
}

fn timeline_text(trace: Follower, query: Query, filter: Filter) -> String {
    let mut fold = TimelineFold::latest(query, STEPS);
    let mut selection = filter.select(&Definitions::default());
    let mut reading = None;
    for item in trace {
        reading.get_or_insert_with(|| Reading::new([&item].into_iter())).item(item, &mut |entry| {
            if selection.takes(entry) {
                fold.entry(entry);
            }
        });
    }
    let timeline = reading.as_ref().map(|reading| steps(&fold.finish(reading.model()), StackChoice::Hide));
    timeline.unwrap_or_default()
}
