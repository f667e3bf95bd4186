//! tracing set-up: terminal, journald, JSON, files. Knows no domain logic.
