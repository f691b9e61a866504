//! The connection to the engine, and its errors in our words.

use bollard::errors::Error as EngineError;
use tokio::sync::OnceCell;

use crate::engine::Error;

/// A connection that is made when it is first needed: an agent starts, and says what is wrong, while its engine is down.
#[derive(Debug)]
pub(super) struct Client {
    address: String,
    connection: OnceCell<bollard::Docker>,
}

impl Client {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            connection: OnceCell::new(),
        }
    }

    /// The engine, in the newest version of its interface that both sides speak.
    pub(super) async fn engine(&self) -> Result<&bollard::Docker, Error> {
        self.connection
            .get_or_try_init(|| async {
                bollard::Docker::connect_with_host(&self.address)
                    .map_err(|error| self.unreachable(error))?
                    .negotiate_version()
                    .await
                    .map_err(|error| self.unreachable(error))
            })
            .await
    }

    fn unreachable(&self, error: EngineError) -> Error {
        Error::Unreachable {
            address: self.address.clone(),
            source: Box::new(error),
        }
    }

    /// An error of a call, told apart: the engine said no, or said nothing.
    pub(super) fn error(&self, action: impl Into<String>, error: EngineError) -> Error {
        if is_answer(&error) {
            refused(action, error)
        } else {
            self.unreachable(error)
        }
    }
}

/// What the engine said no to.
pub(super) fn refused(action: impl Into<String>, error: EngineError) -> Error {
    Error::Refused {
        action: action.into(),
        source: Box::new(error),
    }
}

/// The status of an answer that is an error.
pub(super) fn status_code(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, without the library's words around it.
pub(super) fn message(error: &EngineError) -> String {
    match error {
        EngineError::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        EngineError::DockerStreamError { error } => error.trim().to_owned(),
        other => other.to_string(),
    }
}

/// Whether the engine answered at all.
pub(super) fn is_answer(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::DockerResponseServerError { .. } | EngineError::DockerStreamError { .. }
    )
}
