//! Keeps the isolation rules in step with the networks that exist.

use std::collections::{BTreeSet, HashMap};

use bollard::models::NetworkCreateRequest;
use daemon::causes::with_causes;

use super::client::{message, status_code};
use super::firewall::FirewallError;
use super::observe;
use super::{BRIDGE_NAME_OPTION, Docker, labels};
use crate::engine::{Error, Isolation};
use crate::model::LeaseId;

/// The lease id of the network that is made only to see whether it can be isolated; orders begin at 1.
const PROBE: LeaseId = LeaseId(0);

impl Docker {
    /// Puts the rules of all networks that exist in force, and checks that they are.
    pub(super) async fn enforce_isolation(&self) -> Result<(), Error> {
        // Listing and writing are one step: a list from before another lease's network was made would take its rules
        // away.
        let _turn = self.isolation_turn.lock().await;
        let view = observe::view(&self.client, &self.settings.scope, false).await?;
        self.firewall.enforce(&view.bridges).await.map_err(not_in_force)
    }

    /// The same before a lease's containers start.
    pub(super) async fn isolate(&self, lease: LeaseId) -> Result<(), Error> {
        let bridge = self.settings.scope.names(lease).bridge();
        let outcome = async {
            self.enforce_isolation().await?;
            self.firewall.expect_engine_rules(&bridge).await.map_err(not_in_force)
        };
        match outcome.await {
            Ok(()) => Ok(()),
            Err(error) if self.settings.allow_unisolated => {
                tracing::warn!(%lease, problem = %with_causes(&error), "containers start without isolation rules");
                Ok(())
            }
            Err(error) => Err(Error::NotIsolated {
                lease,
                problem: with_causes(&error),
            }),
        }
    }

    /// Restores and checks everything; what is missing comes back in words.
    pub(super) async fn check_isolation(&self) -> Isolation {
        let mut problems = Vec::new();
        if let Err(error) = self.enforce_isolation().await {
            problems.push(with_causes(&error));
        }
        if problems.is_empty()
            && !self.probed()
            && let Err(error) = self.probe().await
        {
            problems.push(with_causes(&error));
        }
        match self.has_seccomp().await {
            Ok(true) => {}
            Ok(false) => problems.push(
                "the engine runs containers without a seccomp profile; remove `--seccomp-profile=unconfined` from its options, or use a kernel with seccomp".to_owned(),
            ),
            Err(error) => problems.push(with_causes(&error)),
        }
        problems.dedup();
        Isolation {
            isolated: problems.is_empty(),
            problems,
        }
    }

    /// Makes a network, puts rules for it in force, and looks whether the engine has its own for it.
    async fn probe(&self) -> Result<(), Error> {
        let names = self.settings.scope.names(PROBE);
        self.remove_probe().await?;
        self.create_network(PROBE, &names.network(), &names.bridge()).await?;
        let outcome = async {
            self.enforce_isolation().await?;
            self.firewall
                .expect_engine_rules(&names.bridge())
                .await
                .map_err(not_in_force)
        }
        .await;
        self.remove_probe().await?;
        self.enforce_isolation().await?;
        outcome?;
        self.set_probed(true);
        Ok(())
    }

    pub(super) async fn remove_probe(&self) -> Result<(), Error> {
        let name = self.settings.scope.names(PROBE).network();
        match self.client.engine().await?.remove_network(&name).await {
            Ok(()) => Ok(()),
            Err(error) if status_code(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.client.error(format!("remove network {name}"), error)),
        }
    }

    /// Creates a lease's network. One that is there already is not an error.
    pub(super) async fn create_network(&self, lease: LeaseId, name: &str, bridge: &str) -> Result<(), Error> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            // The rules drop all IPv6 that is routed: a network that had it would only look as if it worked.
            enable_ipv6: Some(false),
            options: Some(HashMap::from([(BRIDGE_NAME_OPTION.to_owned(), bridge.to_owned())])),
            labels: Some(labels::of_lease(&self.settings.scope, lease)),
            ..NetworkCreateRequest::default()
        };
        match self.client.engine().await?.create_network(request).await {
            Ok(_) => Ok(()),
            // Both names are the lease's own: who took them is this lease, a moment ago.
            Err(error)
                if status_code(&error) == Some(409) || message(&error).contains("networks have same bridge name") =>
            {
                Ok(())
            }
            Err(error) => Err(self.client.error(format!("create network {name}"), error)),
        }
    }

    async fn has_seccomp(&self) -> Result<bool, Error> {
        let engine = self.client.engine().await?;
        let information = engine
            .info()
            .await
            .map_err(|error| self.client.error("describe itself", error))?;
        let options: BTreeSet<String> = information.security_options.unwrap_or_default().into_iter().collect();
        Ok(options
            .iter()
            .any(|option| option.contains("name=seccomp") && !option.contains("profile=unconfined")))
    }
}

fn not_in_force(error: FirewallError) -> Error {
    Error::Refused {
        action: "isolate the leases' networks".to_owned(),
        source: Box::new(error),
    }
}
