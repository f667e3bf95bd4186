//! PURE: the lifecycle policy of an ECR repository: what ours is, and what to do about the one that is there.

use serde_json::{Value, json};

/// Begins the description of our rule, and so tells our policy from another's.
const SIGNATURE: &str = "Slipway: keep the newest ";

/// What to do about a repository's policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is as it should be, or somebody else's.
    Leave,
    /// Put this document.
    Put(String),
}

/// Keeps the newest `keep` images, of any tag. With one alone, a push whose deployment fails expires the image that runs.
pub(super) fn policy(keep: u32) -> String {
    json!({ "rules": [{
        "rulePriority": 1,
        "description": format!("{SIGNATURE}{keep} images"),
        "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": keep },
        "action": { "type": "expire" },
    }]})
    .to_string()
}

/// `existing`: the policy that the repository has.
pub(super) fn decide(existing: Option<&str>, keep: u32) -> Decision {
    let Some(existing) = existing else {
        return Decision::Put(policy(keep));
    };
    let Some(rule) = only_rule(existing) else {
        return Decision::Leave;
    };
    let count = match rule["selection"]["countType"].as_str() {
        Some("imageCountMoreThan") => rule["selection"]["countNumber"].as_u64(),
        _ => None,
    };
    let ours = rule["description"].as_str().is_some_and(|text| text.starts_with(SIGNATURE));
    // The predecessor's is a single rule that keeps one image.
    let replaceable = ours || count == Some(1);
    if replaceable && count != Some(u64::from(keep)) { Decision::Put(policy(keep)) } else { Decision::Leave }
}

/// The policy's rule where it has exactly one that expires images.
fn only_rule(policy: &str) -> Option<Value> {
    let mut policy: Value = serde_json::from_str(policy).ok()?;
    match policy["rules"].as_array_mut()?.as_mut_slice() {
        [rule] if rule["action"]["type"] == "expire" => Some(rule.take()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_rule(description: &str, count_type: &str, number: u32) -> String {
        json!({"rules":[{"rulePriority":1,"description":description,
            "selection":{"tagStatus":"any","countType":count_type,"countNumber":number},"action":{"type":"expire"}}]})
        .to_string()
    }

    #[test]
    fn a_repository_without_a_policy_gets_ours() {
        assert_eq!(decide(None, 10), Decision::Put(policy(10)));
    }

    #[test]
    fn the_predecessors_policy_that_keeps_one_image_is_replaced() {
        assert_eq!(decide(Some(&one_rule("Keep only the latest image", "imageCountMoreThan", 1)), 10), Decision::Put(policy(10)));
    }

    #[test]
    fn ours_follows_the_configured_number_and_is_otherwise_left() {
        assert_eq!(decide(Some(&policy(10)), 10), Decision::Leave);
        assert_eq!(decide(Some(&policy(10)), 25), Decision::Put(policy(25)));
        assert_eq!(decide(Some(&policy(10)), 1), Decision::Put(policy(1)));
    }

    #[test]
    fn another_policy_is_left_alone() {
        let two = r#"{"rules":[{"action":{"type":"expire"}},{"action":{"type":"expire"}}]}"#;
        for foreign in
            [one_rule("ours", "imageCountMoreThan", 5), one_rule("by age", "sinceImagePushed", 1), two.into(), "nonsense".into()]
        {
            assert_eq!(decide(Some(&foreign), 10), Decision::Leave, "{foreign}");
        }
    }
}
