//! A collector as a client of OTLP sees one: an HTTP server that takes protobuf.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A request that came, with its head in lower case.
#[derive(Debug)]
pub struct Received {
    pub head: String,
    pub body: ExportTraceServiceRequest,
}

pub struct Collector {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let shared = Arc::clone(&received);
        // It ends with the tests' process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = take(stream) {
                    shared.lock().expect("no panic").push(request);
                }
            }
        });
        Self { address, received }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// What `look` sees of all that came.
    pub fn with<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.received.lock().expect("no panic"))
    }

    pub fn spans(&self) -> Vec<Span> {
        self.with(|received| {
            let resources = received.iter().flat_map(|request| &request.body.resource_spans);
            resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
        })
    }
}

/// Attributes by their names, numbers and flags as texts.
pub fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.as_str(), text(attribute))).collect()
}

/// One request of a connection; `None` where it ends before.
fn take(mut stream: TcpStream) -> Option<Received> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = read.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let (begin, length) = (end + 4, length.parse::<usize>().expect("a number"));
            if read.len() >= begin + length {
                let body = ExportTraceServiceRequest::decode(&read[begin..begin + length]).expect("spans");
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
                return Some(Received { head, body });
            }
        }
        match stream.read(&mut piece).ok()? {
            0 => return None,
            count => read.extend_from_slice(&piece[..count]),
        }
    }
}
