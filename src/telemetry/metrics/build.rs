//! Makes and registers metrics from their definitions, so that no name, help text or bucket stands anywhere else.

use prometheus::core::Collector;
use prometheus::{Error, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::telemetry::metric_names::{Def, Kind};

pub(super) struct Builder {
    registry: Registry,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder { registry: Registry::new() }
    }

    pub(super) fn finish(self) -> Registry {
        self.registry
    }

    pub(super) fn counters(&self, def: &Def) -> Result<IntCounterVec, Error> {
        self.register(IntCounterVec::new(opts(def), def.labels)?)
    }

    pub(super) fn gauge(&self, def: &Def) -> Result<Gauge, Error> {
        self.register(Gauge::with_opts(opts(def))?)
    }

    pub(super) fn gauges(&self, def: &Def) -> Result<GaugeVec, Error> {
        self.register(GaugeVec::new(opts(def), def.labels)?)
    }

    pub(super) fn histograms(&self, def: &Def) -> Result<HistogramVec, Error> {
        let mut opts = HistogramOpts::from(opts(def));
        if let Kind::Histogram(buckets) = def.kind {
            opts = opts.buckets(buckets.to_vec());
        }
        self.register(HistogramVec::new(opts, def.labels)?)
    }

    /// A metric and its registered clone share their values.
    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(def: &Def) -> Opts {
    Opts::new(def.name, def.help)
}
