//! Jobs in the shape of the contract.

use serde_json::{Value, json};

use super::{Login, Repository, parts, unique};

/// A queue element in the making. Starts as the tip of `main` of a repository on the test git server.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: String,
    pub service: String,
    json: Value,
}

impl Job {
    /// A CUSTOM job; with the rig's git login where the repository is private.
    pub fn of(repository: &Repository) -> Self {
        let login = repository.name.starts_with("private/").then(|| parts().git_login.clone());
        Self::of_name(&repository.name).provider(custom(&parts().git, login.as_ref()))
    }

    /// A GITHUB job, as the contract has it, with the rig's git login. Wants `GITHUB_URL` set to the test git server.
    pub fn of_github(repository: &Repository) -> Self {
        let login = &parts().git_login;
        Self::of_name(&repository.name).provider(json!({
            "type": "GITHUB", "installationId": "123",
            "githubAccount": {"username": login.username, "accessToken": login.password},
        }))
    }

    /// A CUSTOM job of a name on the test git server, whether there is such a repository or not.
    pub fn bare(repository: &str) -> Self {
        Self::of_name(repository).provider(custom(&parts().git, None))
    }

    fn of_name(repository: &str) -> Self {
        let (id, service) = (unique(), unique());
        let json = json!({
            "deploymentId": id, "serviceId": service, "commitSha": "", "branch": "main", "repositoryName": repository,
            "runtimeFilePath": null, "environmentVariables": [], "ports": [{"servicePort": 80, "containerPort": 3000}],
        });
        Self { id, service, json }
    }

    pub fn provider(self, provider: Value) -> Self {
        self.set("gitProvider", provider)
    }

    /// Clones from another base URL (a fault proxy before the git server, for example).
    pub fn git_at(self, base: &str, login: Option<&Login>) -> Self {
        self.provider(custom(base, login))
    }

    pub fn login(self, username: &str, password: &str) -> Self {
        let login = Login { username: username.to_owned(), password: password.to_owned() };
        self.provider(custom(&parts().git, Some(&login)))
    }

    pub fn branch(self, branch: &str) -> Self {
        self.set("branch", json!(branch))
    }

    pub fn commit(self, sha: &str) -> Self {
        self.set("commitSha", json!(sha))
    }

    pub fn dockerfile(self, path: &str) -> Self {
        self.set("runtimeFilePath", json!(path))
    }

    pub fn service(mut self, service: &str) -> Self {
        self.service = service.to_owned();
        self.set("serviceId", json!(service))
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.json["environmentVariables"].as_array_mut().expect("an array").push(json!({"key": key, "value": value}));
        self
    }

    /// Sets any field, to a value of any kind.
    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.json[field] = value;
        self
    }

    pub fn without(mut self, field: &str) -> Self {
        self.json.as_object_mut().expect("an object").remove(field);
        self
    }

    /// The queue element.
    pub fn payload(&self) -> String {
        self.json.to_string()
    }
}

fn custom(base: &str, login: Option<&Login>) -> Value {
    match login {
        Some(login) => json!({"type": "CUSTOM", "url": base, "username": login.username, "password": login.password}),
        None => json!({"type": "CUSTOM", "url": base}),
    }
}
