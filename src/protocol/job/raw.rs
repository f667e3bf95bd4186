//! PURE: the JSON of a queue element, read field by field into what stands there, right or wrong.
//!
//! Nothing is refused here but broken JSON, so that one look at an element finds all that is wrong with it. The fields are
//! written into a [`RawJob`] that outlives the reader: of an element that is cut in the middle, what came before is known.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::unsupported::is_expected;
use crate::protocol::id::DeploymentId;

/// More variables or ports than this are counted, not kept.
pub(super) const MAX_ITEMS: usize = 10_000;

/// A place where a text or a number is expected.
#[derive(Default)]
pub(super) enum Scalar {
    #[default]
    Absent,
    Text(String),
    /// As JSON (and the predecessor's `${value}`) prints it.
    Number(String),
    Bool(bool),
    /// "a list" or "an object".
    Other(&'static str),
}

/// A place where an object or a list is expected.
#[derive(Default)]
pub(super) enum Group<T> {
    #[default]
    Absent,
    Is(T),
    /// What stands there instead, e.g. "a text".
    Other(&'static str),
}

/// A list, of which at most [`MAX_ITEMS`] are kept.
pub(super) struct Items<T> {
    pub(super) kept: Vec<Group<T>>,
    pub(super) count: usize,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }
}

/// Declares an object of which the named fields are read, in any order, the last one of a name counting, and all others ignored.
macro_rules! object {
    ($name:ident $(+ $other:ident: $other_type:ty)? { $($field:ident: $type:ty = $json:literal),* $(,)? }) => {
        #[derive(Default)]
        pub(super) struct $name { $(pub(super) $field: $type,)* $(pub(super) $other: $other_type,)? }

        impl Fill for $name {
            fn fill<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
                while let Some(Key(key)) = map.next_key()? {
                    match key.as_str() {
                        $($json => map.next_value_seed(Into(&mut self.$field))?,)*
                        other => {
                            let mut says_something = Filled(false);
                            map.next_value_seed(Into(&mut says_something))?;
                            self.note_other(other, says_something.0);
                        }
                    }
                }
                Ok(())
            }
        }
    };
}

object!(RawJob + unsupported: Vec<String> {
    deployment: Scalar = "deploymentId",
    service: Scalar = "serviceId",
    commit: Scalar = "commitSha",
    branch: Scalar = "branch",
    repository: Scalar = "repositoryName",
    dockerfile: Scalar = "runtimeFilePath",
    builder: Scalar = "builder",
    build_timeout: Scalar = "buildTimeout",
    provider: Group<RawProvider> = "gitProvider",
    env: Group<Items<RawEnv>> = "environmentVariables",
    ports: Group<Items<RawPort>> = "ports",
});
object!(RawProvider {
    kind: Scalar = "type",
    github: Group<RawAccount> = "githubAccount",
    url: Scalar = "url",
    username: Scalar = "username",
    password: Scalar = "password",
});
object!(RawAccount { username: Scalar = "username", token: Scalar = "accessToken" });
object!(RawEnv { key: Scalar = "key", value: Scalar = "value" });
object!(RawPort { service: Scalar = "servicePort", container: Scalar = "containerPort" });

/// What becomes of fields that have no place in the object.
trait NoteOther {
    fn note_other(&mut self, _name: &str, _says_something: bool) {}
}
impl NoteOther for RawProvider {}
impl NoteOther for RawAccount {}
impl NoteOther for RawEnv {}
impl NoteOther for RawPort {}
impl NoteOther for RawJob {
    fn note_other(&mut self, name: &str, says_something: bool) {
        if says_something && is_expected(name) && !self.unsupported.iter().any(|noted| noted == name) {
            self.unsupported.push(name.to_owned());
        }
    }
}

/// Whether a value is other than null, false, empty and blank.
struct Filled(bool);

impl RawJob {
    /// The deployment's id, where a valid one was read.
    pub(super) fn deployment_id(&self) -> Option<DeploymentId> {
        match &self.deployment {
            Scalar::Text(id) => DeploymentId::parse(id).ok(),
            _ => None,
        }
    }
}

/// Reads `bytes` as one JSON object. `Err` says where the JSON breaks, without a word of what stands there.
pub(super) fn read(bytes: &[u8]) -> (RawJob, Result<(), String>) {
    let mut root = Group::<RawJob>::Is(RawJob::default());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let result = Into(&mut root).deserialize(&mut reader).and_then(|()| reader.end());
    match (root, result) {
        (Group::Is(job), Ok(())) => (job, Ok(())),
        (Group::Is(job), Err(e)) => (job, Err(position(&e))),
        (Group::Other(what), _) => (RawJob::default(), Err(format!("it is {what}, not an object"))),
        (Group::Absent, _) => (RawJob::default(), Err("it is null, not an object".to_owned())),
    }
}

/// serde_json's own words may quote the text; its position may not.
fn position(e: &serde_json::Error) -> String {
    let what = if e.is_eof() { "the JSON is cut off" } else { "the JSON is broken" };
    format!("{what} at line {}, column {}", e.line(), e.column())
}

/// An object's key. A key of a megabyte is nobody's field: it is not kept.
struct Key(String);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, v: &str) -> Result<Key, E> {
                Ok(Key(if v.len() <= 64 { v.to_owned() } else { String::new() }))
            }
        }
        d.deserialize_str(KeyVisitor)
    }
}

/// Takes an object's fields one after the other.
trait Fill: Default {
    fn fill<'de, A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error>;
}

/// Reads whatever comes next into a place that exists already.
struct Into<'p, T>(&'p mut T);

macro_rules! seed {
    ([$($generic:tt)*] $type:ty) => {
        impl<'de, $($generic)*> DeserializeSeed<'de> for Into<'_, $type> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
                d.deserialize_any(self)
            }
        }
    };
}
seed!([] Scalar);
seed!([] Filled);
seed!([T: Fill] Group<T>);
seed!([T: Fill] Group<Items<T>>);

macro_rules! other_scalars {
    ($make:path) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
        fn visit_unit<E>(self) -> Result<(), E> {
            *self.0 = Default::default();
            Ok(())
        }
        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            *self.0 = $make("a text");
            Ok(())
        }
        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            *self.0 = $make("true or false");
            Ok(())
        }
        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            *self.0 = $make("a number");
            Ok(())
        }
        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            *self.0 = $make("a number");
            Ok(())
        }
        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            *self.0 = $make("a number");
            Ok(())
        }
    };
}

impl<'de> Visitor<'de> for Into<'_, Scalar> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        *self.0 = Scalar::Absent;
        Ok(())
    }
    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        *self.0 = Scalar::Text(v.to_owned());
        Ok(())
    }
    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        *self.0 = Scalar::Bool(v);
        Ok(())
    }
    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        *self.0 = Scalar::Number(v.to_string());
        Ok(())
    }
    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        *self.0 = Scalar::Number(v.to_string());
        Ok(())
    }
    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        *self.0 = Scalar::Number(v.to_string());
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        *self.0 = Scalar::Other("a list");
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        *self.0 = Scalar::Other("an object");
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for Into<'_, Filled> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        self.0.0 = !v.trim().is_empty();
        Ok(())
    }
    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.0.0 = v;
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.0 = true;
        Ok(())
    }
    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.0.0 = v != 0;
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.0 = true;
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {
            self.0.0 = true;
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            self.0.0 = true;
        }
        Ok(())
    }
}

impl<'de, T: Fill> Visitor<'de> for Into<'_, Group<T>> {
    type Value = ();
    other_scalars!(Group::Other);
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        *self.0 = Group::Other("a list");
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        *self.0 = Group::Is(T::default());
        match self.0 {
            Group::Is(fields) => fields.fill(map),
            _ => Ok(()),
        }
    }
}

impl<'de, T: Fill> Visitor<'de> for Into<'_, Group<Items<T>>> {
    type Value = ();
    other_scalars!(Group::Other);
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut items = Items::default();
        loop {
            if items.kept.len() < MAX_ITEMS {
                let mut item = Group::<T>::Absent;
                if seq.next_element_seed(Into(&mut item))?.is_none() {
                    break;
                }
                items.kept.push(item);
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
            items.count += 1;
        }
        *self.0 = Group::Is(items);
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        *self.0 = Group::Other("an object");
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
