//! A worker's permission to send one request, and the one edge back to the limiter: what became of it.

use crate::clock::Moment;
use crate::downstream::job::Job;
use crate::limiter::admission::{Report, Ticket};
use crossbeam_channel::Sender;

/// A job with its ticket, on its way to a worker.
pub struct Dispatch {
    /// The job.
    pub job: Job,
    /// Its ticket and slot.
    pub permit: Permit,
}

/// A ticket and the slot that goes with it. It is finished once: by [`Permit::give_back`], or by being dropped, which
/// frees the slot.
pub struct Permit {
    ticket: Ticket,
    reports: Sender<Feedback>,
    report: Option<Report>,
    is_given_back: bool,
}

impl Permit {
    /// A permit for a ticket that was just granted. Dropped before [`Permit::begin`] it gives the ticket back.
    pub(super) fn new(ticket: Ticket, reports: Sender<Feedback>) -> Permit {
        Permit { ticket, reports, report: Some(Report::Unsent), is_given_back: false }
    }

    /// Until when the request must have been sent, if its place ends.
    #[must_use]
    pub fn must_send_by(&self) -> Option<Moment> {
        self.ticket.must_send_by
    }

    /// The request is about to be sent: from here on a permit that is dropped without a word does not give its ticket back.
    pub fn begin(&mut self) {
        self.report = None;
    }

    /// Tells the limiter, the first time that it is called, when the request was sent. Without it the window would keep the
    /// place of a slow answer until the answer is there.
    pub fn sent_teller(&self) -> impl FnMut(Moment) + use<> {
        let (reports, ticket) = (self.reports.clone(), self.ticket);
        let mut told = false;
        move |at| {
            if !std::mem::replace(&mut told, true) {
                let report = Some(Report::Sent { at });
                let _ = reports.send(Feedback { ticket, report, returned: None, done: false });
            }
        }
    }

    /// Tells at once what became of the ticket; the slot stays taken.
    pub fn report(&mut self, report: Report) {
        self.send(Some(report), None, false);
    }

    /// Tells what became of the ticket together with the end of the slot, in one message when the permit is dropped.
    pub fn report_at_end(&mut self, report: Report) {
        self.report = Some(report);
    }

    /// Gives the job back to the head of its queue, to be sent again, not before a moment if one is given.
    pub fn give_back(mut self, job: Job, report: Report, not_before: Option<Moment>) {
        self.is_given_back = true;
        self.send(Some(report), Some((job, not_before)), true);
    }

    fn send(&self, report: Option<Report>, returned: Option<(Job, Option<Moment>)>, done: bool) {
        // Fails only when the limiter has ended; a returned job then answers as it is dropped.
        let _ = self.reports.send(Feedback { ticket: self.ticket, report, returned, done });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_given_back {
            self.send(self.report, None, true);
        }
    }
}

/// What comes back to the limiter about one ticket.
pub(super) struct Feedback {
    pub(super) ticket: Ticket,
    /// What became of it, if this tells.
    pub(super) report: Option<Report>,
    /// Its job, to be sent again, not before a moment if one is given.
    pub(super) returned: Option<(Job, Option<Moment>)>,
    /// Its slot is free again.
    pub(super) done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn the_limiter_hears_once_when_the_request_was_sent_and_at_the_end_that_the_slot_is_free() {
        let (reports, heard) = unbounded();
        let ticket = Ticket { id: 7, granted_at: Moment::ZERO, must_send_by: None };
        let mut permit = Permit::new(ticket, reports);
        permit.begin();
        let mut sent = permit.sent_teller();
        let at = Moment::from_secs_f64(1.0);
        sent(at);
        sent(Moment::from_secs_f64(2.0));
        drop(permit);
        let told: Vec<_> = heard.try_iter().map(|feedback| (feedback.report, feedback.done)).collect();
        assert_eq!(told, [(Some(Report::Sent { at }), false), (None, true)]);
    }
}
