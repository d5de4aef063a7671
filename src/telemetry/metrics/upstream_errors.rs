//! One route's children of `sidecar_upstream_errors_total`, bounded whatever statuses an upstream invents.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

use crate::telemetry::metric_names::OTHER;
use crate::telemetry::record::UpstreamError;

/// The statuses that `sidecar_upstream_errors_total` may name.
const ERROR_STATUSES: std::ops::Range<u16> = 400..600;
/// Statuses whose series exist from the start, so that `rate()` sees the first one; the others appear when they come.
const EXPECTED_STATUSES: [u16; 10] = [400, 401, 403, 404, 422, 429, 500, 502, 503, 504];

/// One route's children of `sidecar_upstream_errors_total`.
pub(super) struct UpstreamErrors {
    family: IntCounterVec,
    provider: &'static str,
    statuses: Vec<OnceLock<IntCounter>>,
    connect: IntCounter,
    timeout: IntCounter,
    broken: IntCounter,
    other: IntCounter,
}

impl UpstreamErrors {
    pub(super) fn new(family: IntCounterVec, provider: &'static str) -> UpstreamErrors {
        let class = |name: &str| family.with_label_values(&[name, provider]);
        let (connect, timeout, broken, other) =
            (class("connect"), class("timeout"), class("broken"), class(OTHER));
        let statuses = ERROR_STATUSES.map(|_| OnceLock::new()).collect();
        let errors = UpstreamErrors { family, provider, statuses, connect, timeout, broken, other };
        for status in EXPECTED_STATUSES {
            errors.of(UpstreamError::Status(status));
        }
        errors
    }

    pub(super) fn of(&self, error: UpstreamError) -> &IntCounter {
        match error {
            UpstreamError::Connect => &self.connect,
            UpstreamError::Timeout => &self.timeout,
            UpstreamError::Broken => &self.broken,
            UpstreamError::Status(status) => {
                let cell =
                    status.checked_sub(ERROR_STATUSES.start).and_then(|i| self.statuses.get(usize::from(i)));
                cell.map_or(&self.other, |cell| {
                    cell.get_or_init(|| {
                        self.family.with_label_values(&[status.to_string().as_str(), self.provider])
                    })
                })
            }
        }
    }

    pub(super) fn sum(&self) -> u64 {
        let named = [&self.connect, &self.timeout, &self.broken, &self.other];
        self.statuses.iter().filter_map(OnceLock::get).chain(named).map(IntCounter::get).sum()
    }
}
