//! The labels on everything that this crate creates: from them alone the state of every lease can be found again.

use std::collections::HashMap;

use crate::model::{AssignedPort, Assignment, LeaseId, ResolvedImage, Scope};
use crate::plan::Owner;

const PROVIDER: &str = "spheron.provider";
const DEVNET: &str = "spheron.devnet";
const LEASE: &str = "spheron.lease";
const SERVICE: &str = "spheron.service";
const REPLICA: &str = "spheron.replica";
const SPECIFICATION: &str = "spheron.specification";
const STORAGE_BYTES: &str = "spheron.storage-bytes";
const IMAGE: &str = "spheron.image";
const PORTS: &str = "spheron.ports";

/// Labels as the engine has them.
pub(super) type Labels = HashMap<String, String>;

/// What the labels of a container say beside its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerLabels {
    pub(super) service: String,
    pub(super) replica: u32,
    pub(super) specification: String,
    pub(super) storage_bytes: u64,
    pub(super) image: ResolvedImage,
    pub(super) ports: Vec<AssignedPort>,
}

/// The labels of anything that belongs to a lease.
pub(super) fn of_lease(scope: &Scope, lease: LeaseId) -> Labels {
    let mut labels = HashMap::from([
        (PROVIDER.to_owned(), scope.provider_text()),
        (LEASE.to_owned(), lease.to_string()),
    ]);
    if let Some(devnet) = &scope.devnet {
        labels.insert(DEVNET.to_owned(), devnet.clone());
    }
    labels
}

impl ContainerLabels {
    pub(super) fn add_to(&self, labels: &mut Labels) {
        labels.insert(SERVICE.to_owned(), self.service.clone());
        labels.insert(REPLICA.to_owned(), self.replica.to_string());
        labels.insert(SPECIFICATION.to_owned(), self.specification.clone());
        labels.insert(STORAGE_BYTES.to_owned(), self.storage_bytes.to_string());
        // Plain strings and numbers: this cannot fail.
        labels.insert(IMAGE.to_owned(), serde_json::to_string(&self.image).unwrap_or_default());
        labels.insert(PORTS.to_owned(), serde_json::to_string(&self.ports).unwrap_or_default());
    }

    pub(super) fn read(labels: &Labels) -> Option<Self> {
        Some(Self {
            service: labels.get(SERVICE)?.clone(),
            replica: labels.get(REPLICA)?.parse().ok()?,
            specification: labels.get(SPECIFICATION)?.clone(),
            storage_bytes: labels.get(STORAGE_BYTES)?.parse().ok()?,
            image: serde_json::from_str(labels.get(IMAGE)?).ok()?,
            ports: serde_json::from_str(labels.get(PORTS)?).ok()?,
        })
    }

    /// Adds to an assignment what it lacks: what the caller stored goes before what a label says.
    pub(super) fn complete(&self, assignment: &mut Assignment) {
        assignment
            .images
            .entry(self.service.clone())
            .or_insert_with(|| self.image.clone());
        for port in &self.ports {
            let known = assignment.ports.iter().any(|other| {
                other.service == port.service
                    && other.replica == port.replica
                    && other.container_port == port.container_port
                    && other.protocol == port.protocol
            });
            if !known {
                assignment.ports.push(port.clone());
            }
        }
    }
}

/// Whose an object is. Without a devnet label it belongs to no devnet.
pub(super) fn owner(labels: &Labels) -> Option<Owner> {
    Some(Owner {
        scope: Scope {
            provider: labels.get(PROVIDER)?.parse().ok()?,
            devnet: labels.get(DEVNET).cloned(),
        },
        lease: labels.get(LEASE)?.parse().ok()?,
    })
}

/// The engine-side filter for a scope. It cannot say "has no devnet label": what it returns is checked again.
pub(super) fn filter(scope: &Scope) -> HashMap<String, Vec<String>> {
    let mut wanted = vec![format!("{PROVIDER}={}", scope.provider_text())];
    if let Some(devnet) = &scope.devnet {
        wanted.push(format!("{DEVNET}={devnet}"));
    }
    HashMap::from([("label".to_owned(), wanted)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use manifest::Protocol;

    #[test]
    fn what_is_written_is_read() {
        let scope = Scope {
            provider: Address::repeat_byte(0xab),
            devnet: Some("d1".into()),
        };
        let container = ContainerLabels {
            service: "web".into(),
            replica: 2,
            specification: "s".into(),
            storage_bytes: 7,
            image: ResolvedImage {
                reference: "app".into(),
                id: "sha256:1".into(),
                digest: None,
            },
            ports: vec![AssignedPort {
                service: "web".into(),
                replica: 2,
                container_port: 80,
                protocol: Protocol::Tcp,
                host_port: 20_001,
            }],
        };
        let mut labels = of_lease(&scope, LeaseId(9));
        container.add_to(&mut labels);
        assert_eq!(
            owner(&labels),
            Some(Owner {
                scope,
                lease: LeaseId(9)
            })
        );
        assert_eq!(ContainerLabels::read(&labels), Some(container.clone()));

        let mut assignment = Assignment::default();
        container.complete(&mut assignment);
        container.complete(&mut assignment);
        assert_eq!(assignment.ports, container.ports);
    }

    #[test]
    fn foreign_labels_have_no_owner() {
        assert_eq!(owner(&Labels::new()), None);
        let other = Labels::from([
            (PROVIDER.to_owned(), "somebody".to_owned()),
            (LEASE.to_owned(), "1".to_owned()),
        ]);
        assert_eq!(owner(&other), None);
    }
}
