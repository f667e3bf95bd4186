//! PURE: the lists of an element: environment variables and ports.

use secrecy::SecretString;

use super::problems::Problems;
use super::raw::{Group, Items, MAX_ITEMS, RawEnv, RawPort, Scalar};
use super::{EnvVar, Port};

impl Problems {
    fn list<T>(&mut self, field: &str, list: Group<Items<T>>) -> Vec<Group<T>> {
        match list {
            Group::Absent => Vec::new(),
            Group::Other(what) => {
                self.add(field, format_args!("is {what}, not a list"));
                Vec::new()
            }
            Group::Is(items) if items.count > MAX_ITEMS => {
                self.add(field, format_args!("has {} entries; at most {MAX_ITEMS} are taken", items.count));
                Vec::new()
            }
            Group::Is(items) => items.kept,
        }
    }

    pub(super) fn env(&mut self, list: Group<Items<RawEnv>>) -> Vec<EnvVar> {
        let mut env = Vec::new();
        for (i, item) in self.list("environmentVariables", list).into_iter().enumerate() {
            let field = format!("environmentVariables[{i}]");
            match item {
                Group::Is(RawEnv { key, value }) => {
                    let key = match key {
                        Scalar::Text(key) => Some(key),
                        Scalar::Absent => {
                            self.add(format_args!("{field}.key"), "is missing");
                            None
                        }
                        other => self.text(&format!("{field}.key"), other).flatten(),
                    };
                    // Numbers and booleans become what they look like, as with the predecessor.
                    let value = match value {
                        Scalar::Absent => Some(String::new()),
                        Scalar::Text(text) | Scalar::Number(text) => Some(text),
                        Scalar::Bool(value) => Some(value.to_string()),
                        Scalar::Other(what) => self.not_text(&format!("{field}.value"), what),
                    };
                    if let (Some(key), Some(value)) = (key, value) {
                        env.push(EnvVar { key, value: SecretString::from(value) });
                    }
                }
                Group::Absent => self.add(field, "is null, not an object"),
                Group::Other(what) => self.add(field, format_args!("is {what}, not an object")),
            }
        }
        env
    }

    pub(super) fn ports(&mut self, list: Group<Items<RawPort>>) -> Vec<Port> {
        let mut ports = Vec::new();
        for (i, item) in self.list("ports", list).into_iter().enumerate() {
            let field = format!("ports[{i}]");
            match item {
                Group::Is(RawPort { service, container }) => {
                    let service = self.port(&field, "servicePort", service);
                    let container = self.port(&field, "containerPort", container);
                    if let (Some(service_port), Some(container_port)) = (service, container) {
                        ports.push(Port { service_port, container_port });
                    }
                }
                Group::Absent => self.add(field, "is null, not an object"),
                Group::Other(what) => self.add(field, format_args!("is {what}, not an object")),
            }
        }
        ports
    }

    /// 1 to 65535, also as a text: forms send numbers so.
    fn port(&mut self, field: &str, name: &str, value: Scalar) -> Option<u16> {
        let port = match &value {
            Scalar::Number(text) | Scalar::Text(text) => text.trim().parse::<u16>().ok().filter(|p| *p != 0),
            _ => None,
        };
        if port.is_none() {
            self.add(format_args!("{field}.{name}"), "is not a port number (1 to 65535)");
        }
        port
    }
}
