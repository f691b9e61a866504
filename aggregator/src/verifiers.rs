//! The BLS quorum verifiers that decide tasks now and later, for the jobs that serve them.

use alloy::contract::Error as ContractError;
use alloy::providers::RootProvider;
use alloy_primitives::Address;
use bindings::IBlsQuorumVerifier::IBlsQuorumVerifierInstance;
use bindings::{IBlsQuorumVerifier, IMatchingTaskManager, IQuorumVerifier};

/// Reads which verifiers there are.
#[derive(Debug, Clone)]
pub(crate) struct Verifiers {
    provider: RootProvider,
    task_manager: Address,
}

impl Verifiers {
    pub(crate) fn new(provider: RootProvider, task_manager: Address) -> Self {
        Self { provider, task_manager }
    }

    /// The verifier of tasks that close now, and the one that governance named for later if it is another; without a
    /// single matchmaker's, which knows neither stakes nor aggregate keys.
    pub(crate) async fn in_force(&self) -> Result<Vec<IBlsQuorumVerifierInstance<RootProvider>>, ContractError> {
        let manager = IMatchingTaskManager::new(self.task_manager, self.provider.clone());
        let (now, later) = (manager.quorumVerifier(), manager.quorumVerifierAt(u32::MAX));
        let (now, later) = tokio::try_join!(now.call(), later.call())?;
        let mut found = Vec::new();
        for address in [Some(now), (later != now).then_some(later)].into_iter().flatten() {
            found.extend(self.bls(address).await?);
        }
        Ok(found)
    }

    /// The verifier of one close block, unless it is a single matchmaker's.
    pub(crate) async fn at(
        &self,
        close_block: u32,
    ) -> Result<Option<IBlsQuorumVerifierInstance<RootProvider>>, ContractError> {
        let manager = IMatchingTaskManager::new(self.task_manager, self.provider.clone());
        let address = manager.quorumVerifierAt(close_block).call().await?;
        self.bls(address).await
    }

    async fn bls(&self, address: Address) -> Result<Option<IBlsQuorumVerifierInstance<RootProvider>>, ContractError> {
        let verifier = IQuorumVerifier::new(address, self.provider.clone());
        let capped = verifier.capped().call().await?;
        Ok((!capped).then(|| IBlsQuorumVerifier::new(address, self.provider.clone())))
    }
}
