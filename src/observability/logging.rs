//! Log lines, as text or JSON, on standard error: standard output is left to the commands.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::{LogFormat, LogSettings};

/// Sets the log up for this process, and who else is told of spans. A second call changes nothing.
pub fn init(settings: &LogSettings, spans: Option<impl Layer<Registry> + Send + Sync>) {
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(spans).with(lines.with_filter(filter(settings))).try_init().ok();
}

/// Whether lines say which span they are of.
pub fn shows_spans(settings: &LogSettings) -> bool {
    filter(settings).max_level_hint().is_none_or(|level| level >= LevelFilter::DEBUG)
}

fn filter(settings: &LogSettings) -> EnvFilter {
    EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"))
}
