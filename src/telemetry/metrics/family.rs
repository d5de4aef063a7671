//! A metric whose figures are kept elsewhere: read when it is scraped, and not counted a second time.

use crate::telemetry::metric_names::{Def, Kind};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// One value with the values of its labels, in the order of [`Def::labels`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    labels: Vec<String>,
    value: f64,
}

impl Sample {
    /// The only value of a metric without labels.
    #[must_use]
    pub fn plain(value: f64) -> Sample {
        Sample { labels: Vec::new(), value }
    }

    /// The value for these labels' values.
    #[must_use]
    pub fn labelled<const N: usize>(labels: [&str; N], value: f64) -> Sample {
        Sample { labels: labels.map(str::to_owned).into(), value }
    }
}

/// A metric and its values at one moment.
#[derive(Clone, Debug)]
pub struct Family {
    /// The metric: a counter or a gauge.
    pub def: Def,
    /// Its values; a family without any is left out of the text.
    pub samples: Vec<Sample>,
}

impl Family {
    /// The family as the encoder takes it.
    pub(super) fn into_proto(self) -> MetricFamily {
        let def = self.def;
        let mut family = MetricFamily::default();
        family.set_name(def.name.to_owned());
        family.set_help(def.help.to_owned());
        let is_counter = def.kind == Kind::Counter;
        family.set_field_type(if is_counter { MetricType::COUNTER } else { MetricType::GAUGE });
        let metrics = self.samples.into_iter().map(|sample| metric(def.labels, sample, is_counter));
        family.set_metric(metrics.collect());
        family
    }
}

fn metric(names: &[&str], sample: Sample, is_counter: bool) -> Metric {
    let mut pairs: Vec<LabelPair> = names
        .iter()
        .zip(sample.labels)
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value);
            pair
        })
        .collect();
    // As the registry does with the metrics that it keeps.
    pairs.sort_by(|a, b| a.name().cmp(b.name()));
    let mut metric = Metric::from_label(pairs);
    if is_counter {
        let mut counter = Counter::default();
        counter.set_value(sample.value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(sample.value);
        metric.set_gauge(gauge);
    }
    metric
}
