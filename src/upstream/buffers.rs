//! The two buffers of an upstream connection: what is gathered to be sent in one piece, and what has arrived.

use ureq::unversioned::transport::Buffers;

/// What a buffer has at rest, and what is read at once. ureq's own default of 128 KiB costs 600 kB for every TLS call.
const USUAL_BYTES: usize = 16 * 1024;

/// Room for content behind the head of a request; larger content leaves in pieces of this size.
const CONTENT_BYTES: usize = 48 * 1024;

/// The largest head of an answer, and so the largest input that waits for its rest. The bound of clients' heads is the
/// same.
pub(super) const MAX_ANSWER_HEAD: usize = 64 * 1024;

/// Output collects until somebody takes it, so that head and content of a small request leave together, and no part of
/// a head leaves without its end. Input grows up to [`MAX_ANSWER_HEAD`] for what needs it.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    output: Vec<u8>,
    gathered: usize,
    /// Longer than any head that may be gathered.
    room: usize,
    input: Vec<u8>,
    consumed: usize,
    filled: usize,
    progress: bool,
}

impl Gathering {
    /// Prepares for a request whose head takes at most `head` bytes, and gives back what a larger one needed.
    pub(super) fn prepare(&mut self, head: usize, content: usize) {
        self.room = head + content.min(CONTENT_BYTES) + 1;
        self.output.truncate(USUAL_BYTES);
        self.output.shrink_to(USUAL_BYTES);
        if self.consumed == self.filled {
            (self.consumed, self.filled) = (0, 0);
            self.input.truncate(USUAL_BYTES);
            self.input.shrink_to(USUAL_BYTES);
        }
    }

    /// Adds what was written to [`Buffers::output`]; tells whether there is no room for much more.
    pub(super) fn gather(&mut self, amount: usize) -> bool {
        self.gathered += amount;
        self.gathered + 1 >= self.room
    }

    /// What has been gathered; it counts as sent.
    pub(super) fn take_output(&mut self) -> &[u8] {
        &self.output[..std::mem::take(&mut self.gathered)]
    }

    /// Whether something has been gathered.
    pub(super) fn has_output(&self) -> bool {
        self.gathered > 0
    }
}

impl Buffers for Gathering {
    fn output(&mut self) -> &mut [u8] {
        if self.output.len() < self.room {
            self.output.resize(self.room, 0);
        }
        &mut self.output[self.gathered..]
    }

    fn input(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        if self.consumed > 0 {
            self.input.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
        }
        if self.input.len() - self.filled < USUAL_BYTES / 2 {
            self.input.resize(self.filled + USUAL_BYTES, 0);
        }
        &mut self.input[self.filled..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.filled += amount;
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.consumed += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        // The first is for chunked requests only; ureq asks for it and leaves it alone.
        self.output();
        self.input_append_buf();
        (&mut self.input[self.filled..], &mut self.output[self.gathered..])
    }

    fn can_use_input(&self) -> bool {
        self.filled > self.consumed && self.progress
    }
}
