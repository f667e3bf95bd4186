//! PURE: the names of everything that the queue keeps in Redis. All of them hash to the producer's list's slot.

use super::QueueError;

/// All keys of one queue. None is built from a payload.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The producer's list.
    pub queue: String,
    /// Just taken from the producer's list, owned by nobody.
    pub incoming: String,
    pub workers: String,
    pub jobs: String,
    /// Ids of ended records by the time of their end, so that they can be pruned.
    pub ended: String,
    pub service: String,
    pub tombs: String,
    pub crashes: String,
    /// The elements of `crashes` by the time at which each was seen there first, so that they can be pruned.
    pub crashed: String,
    pub dead: String,
    pub epoch: String,
    /// Channel on which workers tell each other that a record was flagged.
    pub notices: String,
    /// Written and removed by the check of rights.
    pub probe: String,
    base: String,
}

impl Keys {
    /// A name without braces becomes the hash tag; a name with one tag of its own (`{prod}:builds`) keeps it.
    /// Other braces are refused: the list and our keys would lie in different slots of a cluster.
    pub fn of(queue: &str) -> Result<Self, QueueError> {
        let refuse = |cause: &str| Err(QueueError::Name { name: queue.to_owned(), cause: cause.to_owned() });
        if queue.is_empty() {
            return refuse("it is empty");
        }
        let base = match (queue.matches('{').count(), queue.matches('}').count()) {
            (0, 0) => format!("{{{queue}}}"),
            (1, 1) => match (queue.find('{'), queue.find('}')) {
                (Some(open), Some(close)) if close > open + 1 => queue.to_owned(),
                _ => return refuse("its braces are no hash tag"),
            },
            _ => return refuse("it has braces that are no single hash tag"),
        };
        let key = |what: &str| format!("{base}:{what}");
        Ok(Self {
            queue: queue.to_owned(),
            incoming: key("incoming"),
            workers: key("workers"),
            jobs: key("jobs"),
            ended: key("ended"),
            service: key("service"),
            tombs: key("tombs"),
            crashes: key("crashes"),
            crashed: key("crashed"),
            dead: key("dead"),
            epoch: key("epoch"),
            notices: key("notices"),
            probe: key("probe"),
            base,
        })
    }
    /// The list of the attempts that `worker` owns.
    pub fn claimed(&self, worker: &str) -> String {
        format!("{}:claimed:{worker}", self.base)
    }
    /// The lease of `worker`; its value is the nonce of the process that holds it.
    pub fn lease(&self, worker: &str) -> String {
        format!("{}:lease:{worker}", self.base)
    }
    /// The pattern that an ACL user needs besides the producer's list.
    pub fn pattern(&self) -> String {
        format!("{}:*", self.base)
    }
    /// Every fixed key with the type that it must have, to name the one that is of a wrong type.
    pub fn typed(&self) -> [(&str, &'static str); 11] {
        [
            (&self.queue, "list"),
            (&self.incoming, "list"),
            (&self.workers, "hash"),
            (&self.jobs, "hash"),
            (&self.ended, "zset"),
            (&self.service, "hash"),
            (&self.tombs, "zset"),
            (&self.crashes, "hash"),
            (&self.crashed, "zset"),
            (&self.dead, "list"),
            (&self.epoch, "string"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_becomes_the_hash_tag_of_all_other_keys() {
        let keys = Keys::of("builder-queue").unwrap();
        assert_eq!(keys.queue, "builder-queue");
        assert_eq!(keys.incoming, "{builder-queue}:incoming");
        assert_eq!(keys.claimed("w1"), "{builder-queue}:claimed:w1");
        assert_eq!(keys.pattern(), "{builder-queue}:*");
    }

    #[test]
    fn a_name_with_a_tag_of_its_own_keeps_it_and_stays_apart_from_its_neighbours() {
        let keys = Keys::of("{prod}:builds").unwrap();
        assert_eq!(keys.jobs, "{prod}:builds:jobs");
        assert_ne!(keys.jobs, Keys::of("{prod}:other").unwrap().jobs);
    }

    #[test]
    fn braces_that_are_no_single_hash_tag_are_refused_with_the_name_and_the_reason() {
        for name in ["", "a{b", "a}b", "}a{", "{}a", "{a}{b}", "{{a}}", "x{{prod}:q"] {
            let error = Keys::of(name).unwrap_err().to_string();
            assert!(error.contains("REDIS_QUEUE_NAME"), "{name}: {error}");
        }
    }
}
