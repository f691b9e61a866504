//! Errors in one line, as logs, health and answers show them.

use std::error::Error;

/// An error with what caused it, outermost first: `cannot read the order: error sending request: Connection refused`. A
/// cause that the words before already tell is not told again.
pub fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    for cause in causes(error) {
        let cause = cause.to_string();
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// The innermost reason: `Connection refused` rather than `error sending request`.
pub fn root_cause(error: &dyn Error) -> String {
    causes(error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes<'a>(error: &'a dyn Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| (**cause).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layer(text: &'static str, source: Option<Layer>) -> Layer {
        Layer {
            text,
            source: source.map(Box::new),
        }
    }

    #[test]
    fn causes_are_told_once_and_in_order() {
        let inner = layer("connection refused", None);
        let repeats = layer("connection refused by 10.0.0.1", Some(inner));
        let error = layer("cannot read the order", Some(layer("no answer", Some(repeats))));
        assert_eq!(
            with_causes(&error),
            "cannot read the order: no answer: connection refused by 10.0.0.1"
        );
        assert_eq!(root_cause(&error), "connection refused");
        let alone = layer("alone", None);
        assert_eq!(with_causes(&alone), "alone");
        assert_eq!(root_cause(&alone), "alone");
    }
}
