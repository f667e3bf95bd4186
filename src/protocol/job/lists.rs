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

    /// What `read` makes of each entry; it is given the entry's name for people.
    fn objects<R, T>(
        &mut self,
        list_name: &str,
        list: Group<Items<R>>,
        mut read: impl FnMut(&mut Self, &str, R) -> Option<T>,
    ) -> Vec<T> {
        let mut objects = Vec::new();
        for (i, item) in self.list(list_name, list).into_iter().enumerate() {
            let field = format!("{list_name}[{i}]");
            match item {
                Group::Is(raw) => objects.extend(read(self, &field, raw)),
                Group::Absent => self.add(field, "is null, not an object"),
                Group::Other(what) => self.add(field, format_args!("is {what}, not an object")),
            }
        }
        objects
    }

    pub(super) fn env(&mut self, list: Group<Items<RawEnv>>) -> Vec<EnvVar> {
        self.objects("environmentVariables", list, |problems, field, RawEnv { key, value }| {
            let key = match key {
                Scalar::Text(key) => Some(key),
                Scalar::Absent => {
                    problems.add(format_args!("{field}.key"), "is missing");
                    None
                }
                other => problems.text(&format!("{field}.key"), other).flatten(),
            };
            // Numbers and booleans become what they look like, as with the predecessor.
            let value = match value {
                Scalar::Absent => Some(String::new()),
                Scalar::Text(text) | Scalar::Number(text) => Some(text),
                Scalar::Bool(value) => Some(value.to_string()),
                Scalar::Other(what) => problems.not_text(&format!("{field}.value"), what),
            };
            Some(EnvVar { key: key?, value: SecretString::from(value?) })
        })
    }

    pub(super) fn ports(&mut self, list: Group<Items<RawPort>>) -> Vec<Port> {
        self.objects("ports", list, |problems, field, RawPort { service, container }| {
            let service = problems.port(field, "servicePort", service);
            let container = problems.port(field, "containerPort", container);
            Some(Port { service_port: service?, container_port: container? })
        })
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
