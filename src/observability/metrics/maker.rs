//! Makes metrics that are registered from the start, and keeps the list of them.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// What there is to know of a metric before anything is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub labels: Vec<String>,
    pub help: String,
}

#[derive(Default)]
pub struct Maker {
    registry: Registry,
    described: RefCell<Vec<Described>>,
}

impl Maker {
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.registered("counter", IntCounter::with_opts(Opts::new(name, help))?)
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.registered("counter", IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.registered("gauge", IntGauge::with_opts(Opts::new(name, help))?)
    }

    pub fn seconds(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.registered("gauge", Gauge::new(name, help)?)
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.registered("gauge", IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.registered("histogram", Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec, Error> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.registered("histogram", HistogramVec::new(options, labels)?)
    }

    /// Memory, CPU time and open files, under the names that Prometheus' own clients give them, behind `quotad_`. Read when they
    /// are asked for.
    #[cfg(target_os = "linux")]
    pub fn process(&self) -> Result<(), Error> {
        let id = i32::try_from(std::process::id()).unwrap_or_default();
        let process = prometheus::process_collector::ProcessCollector::new(id, "quotad");
        for desc in process.desc() {
            let kind = if desc.fq_name.ends_with("_total") { "counter" } else { "gauge" };
            self.describe(kind, desc);
        }
        self.registry.register(Box::new(process))
    }

    #[cfg(not(target_os = "linux"))]
    pub const fn process(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Where all that were made are gathered.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// All that were made until now.
    pub fn described(&self) -> Vec<Described> {
        self.described.borrow().clone()
    }

    fn registered<M: Collector + Clone + 'static>(&self, kind: &'static str, metric: M) -> Result<M, Error> {
        metric.desc().into_iter().for_each(|desc| self.describe(kind, desc));
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn describe(&self, kind: &'static str, desc: &prometheus::core::Desc) {
        let (name, help, labels) = (desc.fq_name.clone(), desc.help.clone(), desc.variable_labels.clone());
        self.described.borrow_mut().push(Described { name, kind, labels, help });
    }
}
