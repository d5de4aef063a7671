//! The log: one line an event, formatted where it happens and written by one thread.
//!
//! A thread that logs only formats its line and puts it into a bounded queue; it never waits for the reader of the
//! log. When the reader stalls and the queue is full, lines are dropped, counted, and the loss is told in the log as
//! soon as there is room. A closed output costs the lines and nothing else.
//!
//! The log goes to standard output: `run` writes nothing else there, container platforms read it as the event stream,
//! and some of them rate every line of standard error as an error whatever its level says. What must be said before
//! the log is up (a configuration fault) goes to standard error.
//!
//! Other crates' lines are kept from `warn` up only: at `debug` they show headers, and headers hold keys.

mod format;
mod journald;
mod redact;
mod request;

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender, bounded};
use log::{Level, LevelFilter, Log, Metadata, SetLoggerError};
use simplelog::{CombinedLogger, SharedLogger};

use crate::clock::Clock;

pub use request::log_record;

/// Lines that may wait for the writer. A burst of a busy second fits; with the bound on a line it is at most a few
/// megabytes however long the reader stalls.
const QUEUED_LINES: usize = 1024;
/// Threads that may wait for a flush at once.
const QUEUED_ORDERS: usize = 4;
/// How long [`Log::flush`] waits for the writer, so that a stalled reader cannot keep the process from ending.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
/// The writer hands on what is queued in pieces of about this size, one system call each.
const BATCH_BYTES: usize = 16 * 1024;
/// How long the writer lets lines gather before it writes them. Without it every request would wake the writer, which
/// costs a busy proxy more than the line itself; in this time fewer lines come than fit the queue.
const GATHER: Duration = Duration::from_millis(5);

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for collectors.
    Json,
    /// `time LEVEL target: message key=value …`, for people.
    Text,
}

impl LogFormat {
    /// Text when standard output is a terminal, else JSON.
    #[must_use]
    pub fn for_stdout() -> LogFormat {
        if std::io::stdout().is_terminal() { LogFormat::Text } else { LogFormat::Json }
    }
}

/// How a line looks, and whether a syslog priority stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    format: LogFormat,
    /// For journald, which takes `<3>` off a line and files it as an error (sd-daemon(3)).
    has_priority: bool,
}

impl Style {
    /// The format, with priorities where standard output goes to the journal. `journal_stream` is the variable
    /// `JOURNAL_STREAM`.
    #[must_use]
    pub fn for_stdout(format: LogFormat, journal_stream: Option<&OsStr>) -> Style {
        Style { format, has_priority: journald::reads_stdout(journal_stream) }
    }

    fn line(self, at: SystemTime, record: &log::Record<'_>) -> Vec<u8> {
        let line = format::line(self.format, at, record);
        if self.has_priority { [journald::priority(record.level()), &line].concat() } else { line }
    }
}

/// The process's logger: formats lines and queues them.
pub struct Logger {
    style: Style,
    clock: Clock,
    lines: Sender<Vec<u8>>,
    orders: Sender<WriterCommand>,
    dropped: Arc<AtomicU64>,
}

/// The other end of a [`Logger`]: to be run by a thread of its own.
pub struct LogWriter {
    style: Style,
    clock: Clock,
    lines: Receiver<Vec<u8>>,
    orders: Receiver<WriterCommand>,
    dropped: Arc<AtomicU64>,
}

/// Ends the [`LogWriter`]'s thread when all that was logged before is written.
#[derive(Clone)]
pub struct LogCloser(Sender<WriterCommand>);

/// What the writer is told besides lines; both hold for the lines that were logged before.
enum WriterCommand {
    Flush(Sender<()>),
    Close,
}

/// Makes the process's logger and installs it; [`set_level`] changes its level later.
///
/// Lines logged before the writer's thread runs wait in the queue.
///
/// # Errors
/// When the process has a logger already.
pub fn install(
    style: Style,
    level: LevelFilter,
    clock: Clock,
) -> Result<(LogWriter, LogCloser), SetLoggerError> {
    let (logger, writer, closer) = Logger::new(style, clock);
    CombinedLogger::init(vec![Box::new(logger)])?;
    set_level(level);
    Ok((writer, closer))
}

/// Sets from which level on the process logs, at once and for all threads.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

impl Logger {
    fn new(style: Style, clock: Clock) -> (Logger, LogWriter, LogCloser) {
        let (line_sender, lines) = bounded(QUEUED_LINES);
        let (order_sender, orders) = bounded(QUEUED_ORDERS);
        let dropped = Arc::new(AtomicU64::new(0));
        let logger = Logger {
            style,
            clock,
            lines: line_sender,
            orders: order_sender.clone(),
            dropped: Arc::clone(&dropped),
        };
        (logger, LogWriter { style, clock, lines, orders, dropped }, LogCloser(order_sender))
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn || is_ours(metadata.target())
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = self.style.line(self.clock.wall(), record);
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        let (written, wait) = bounded(1);
        if self.orders.send_timeout(WriterCommand::Flush(written), FLUSH_WITHIN).is_ok() {
            // Late or never is fine: the lines are lost then, the process goes on.
            let _ = wait.recv_timeout(FLUSH_WITHIN);
        }
    }
}

impl SharedLogger for Logger {
    fn level(&self) -> LevelFilter {
        // The level in force is `log::max_level`, which can change; this one is only the ceiling that
        // `CombinedLogger` keeps forever.
        LevelFilter::Trace
    }

    fn config(&self) -> Option<&simplelog::Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

/// Whether the line comes from this crate.
fn is_ours(target: &str) -> bool {
    target.strip_prefix("nvidia_sidecar").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl LogWriter {
    /// Writes lines to `out` until the [`LogCloser`] closes or is gone together with every logger.
    ///
    /// An output that fails (a closed pipe, a full disk) loses the lines of that moment; the next ones are tried again.
    pub fn run(self, mut out: impl Write) {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        loop {
            let order = self.gather();
            self.write_queued(&mut batch, &mut out);
            match order {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(WriterCommand::Flush(done)) => drop(done.try_send(())),
                Ok(WriterCommand::Close) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits for a line, and a little longer for more of them; an order ends the wait.
    fn gather(&self) -> Result<WriterCommand, RecvTimeoutError> {
        let mut first = Select::new();
        first.recv(&self.lines);
        first.recv(&self.orders);
        first.ready();
        self.orders.recv_timeout(GATHER)
    }

    /// Writes the lines that are queued now, not those that come meanwhile: a busy log must not keep an order waiting.
    fn write_queued(&self, batch: &mut Vec<u8>, out: &mut impl Write) {
        for mut line in self.lines.try_iter().take(self.lines.len()) {
            redact::mask(&mut line);
            batch.append(&mut line);
            if batch.len() >= BATCH_BYTES {
                write_batch(batch, out);
            }
        }
        self.tell_losses(batch);
        write_batch(batch, out);
    }

    fn tell_losses(&self, batch: &mut Vec<u8>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let fields = ("dropped", dropped);
            let record = log::Record::builder()
                .level(Level::Warn)
                .target(module_path!())
                .args(format_args!("log lines were dropped because the log's reader was too slow"))
                .key_values(&fields)
                .build();
            batch.extend(self.style.line(self.clock.wall(), &record));
        }
    }
}

fn write_batch(batch: &mut Vec<u8>, out: &mut impl Write) {
    // Nobody is left to tell that the log itself cannot be written.
    let _ = out.write_all(batch).and_then(|()| out.flush());
    batch.clear();
}

impl LogCloser {
    /// Ends the writer's thread. When its reader has stalled it may not hear of it: join it with a bound.
    pub fn close(&self) {
        let _ = self.0.send_timeout(WriterCommand::Close, FLUSH_WITHIN);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use parking_lot::Mutex;

    use super::*;

    fn event<'a>(level: Level, target: &'a str, args: std::fmt::Arguments<'a>) -> log::Record<'a> {
        log::Record::builder().level(level).target(target).args(args).build()
    }

    fn plain(format: LogFormat) -> Style {
        Style { format, has_priority: false }
    }

    /// Runs the writer over what was queued and gives back what it wrote.
    fn written(logger: Logger, writer: LogWriter, closer: &LogCloser) -> String {
        closer.close();
        let mut out = Vec::new();
        writer.run(&mut out);
        drop(logger);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn other_crates_are_heard_from_warn_up_and_ours_at_every_level() {
        let (logger, writer, closer) = Logger::new(plain(LogFormat::Text), Clock::start());
        logger.log(&event(Level::Debug, "ureq::run", format_args!("authorization: Bearer x")));
        logger.log(&event(Level::Trace, "nvidia_sidecar_fake", format_args!("not ours")));
        logger.log(&event(Level::Warn, "rustls", format_args!("odd certificate")));
        logger.log(&event(Level::Trace, "nvidia_sidecar::front", format_args!("a piece")));
        let text = written(logger, writer, &closer);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("odd certificate") && text.contains("a piece"), "{text}");
    }

    #[test]
    fn the_journal_is_told_how_bad_each_line_is() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let (logger, writer, closer) = Logger::new(Style { format, has_priority: true }, Clock::start());
            for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
                logger.log(&event(level, "nvidia_sidecar", format_args!("x")));
            }
            let text = written(logger, writer, &closer);
            let priorities: Vec<&str> = text.lines().map(|line| &line[..3]).collect();
            assert_eq!(priorities, ["<3>", "<4>", "<6>", "<7>", "<7>"]);
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_the_loss_is_told() {
        let (logger, writer, closer) = Logger::new(plain(LogFormat::Json), Clock::start());
        for _ in 0..QUEUED_LINES + 7 {
            logger.log(&event(Level::Info, "nvidia_sidecar", format_args!("busy")));
        }
        let mut out = Vec::new();
        drop((logger, closer));
        writer.run(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), QUEUED_LINES + 1);
        assert!(text.contains("\"dropped\":7"), "{text}");
    }

    #[test]
    fn a_closed_output_is_no_panic_and_the_next_line_is_tried_again() {
        struct Broken<'a>(&'a Mutex<u32>);
        impl Write for Broken<'_> {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                *self.0.lock() += 1;
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (logger, writer, closer) = Logger::new(plain(LogFormat::Json), Clock::start());
        let writes = Mutex::new(0);
        std::thread::scope(|threads| {
            threads.spawn(|| writer.run(Broken(&writes)));
            for _ in 0..2 {
                logger.log(&event(Level::Info, "nvidia_sidecar", format_args!("line")));
                logger.flush();
            }
            closer.close();
        });
        assert_eq!(*writes.lock(), 2);
    }

    #[test]
    fn keys_that_slipped_into_a_line_are_masked() {
        let (logger, writer, closer) = Logger::new(plain(LogFormat::Json), Clock::start());
        logger.log(&event(Level::Info, "nvidia_sidecar", format_args!("key nvapi-abcdefghijkl used")));
        let text = written(logger, writer, &closer);
        assert!(!text.contains("abcdefghijkl") && text.contains("nvapi-***"), "{text}");
    }
}
