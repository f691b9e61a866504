//! What each part of a registered agent is made of. They share the chain, the store and the engine, and see no more of each other.

use std::collections::BTreeMap;

use ::chain::Transactions;
use bindings::IOrderBook;
use daemon::StoreError;
use tokio::sync::watch;

use super::Agent;
use crate::bidder::{Bidder, PricingCommand};
use crate::caretaker::Caretaker;
use crate::cashier::Cashier;
use crate::config::Config;
use crate::funds::Windows;
use crate::leases::Patience;
use crate::pricing::Prices;
use crate::settling;
use crate::updater::Updater;
use crate::updates::Trial;

/// What is known once the provider is registered and the market was read.
pub(super) struct Shared {
    /// The provider's id.
    pub(super) own: u32,
    pub(super) windows: Windows,
    pub(super) transactions: Transactions,
    pub(super) prices: BTreeMap<u8, Prices>,
    pub(super) parameters: IOrderBook::Parameters,
}

impl Agent {
    pub(super) fn caretaker(&self, shared: &Shared) -> Caretaker {
        Caretaker {
            market: self.market.clone(),
            store: self.store.clone(),
            manifests: self.manifests.clone(),
            engine: self.engine.clone(),
            transactions: shared.transactions.clone(),
            own: shared.own,
            patience: patience(&self.config),
            trial: Trial {
                steady_seconds: self.config.updates.steady_for.as_secs(),
                limit_seconds: self.config.updates.give_up_after.as_secs(),
            },
            windows: shared.windows,
            seen: self.seen.subscribe(),
            ground: self.ground.clone(),
            reachability: self.endpoints.reachability(),
            failures: self.failures(),
            metrics: self.counts.clone(),
        }
    }

    pub(super) fn cashier(&self, shared: &Shared) -> Cashier {
        if let Some(advice) = self.config.settle.advice() {
            tracing::warn!("{advice}");
        }
        let native_price = self.config.settle.native_price;
        Cashier {
            market: self.market.clone(),
            store: self.store.clone(),
            transactions: shared.transactions.clone(),
            own: shared.own,
            hold_seconds: shared.parameters.challengeWindow.into(),
            terms: self.config.settle.terms(),
            native_price: native_price.and_then(|price| settling::dollars(price.0)),
            announces: self.config.leases.announce_low_funds,
            windows: shared.windows,
            depth: self.config.leases.removal_depth,
            seen: self.seen.subscribe(),
            reachability: self.endpoints.reachability(),
            failures: self.failures(),
            metrics: self.counts.clone(),
        }
    }

    pub(super) fn updater(&self, shared: &Shared) -> Updater {
        let parameters = &shared.parameters;
        Updater {
            market: self.market.clone(),
            store: self.store.clone(),
            manifests: self.manifests.clone(),
            engine: self.engine.clone(),
            transactions: shared.transactions.clone(),
            own: shared.own,
            accept: self.config.updates.accept,
            prices: shared.prices.clone(),
            command: self.pricing_command(),
            answer_window: u64::from(parameters.responseWindow) + u64::from(parameters.matchWindow),
            seen: self.seen.subscribe(),
            reachability: self.endpoints.reachability(),
            failures: self.failures(),
            metrics: self.counts.clone(),
        }
    }

    pub(super) fn bidder(&self, shared: Shared) -> Bidder {
        Bidder {
            market: self.market.clone(),
            store: self.store.clone(),
            transactions: shared.transactions,
            own: shared.own,
            prices: shared.prices,
            enabled: self.config.bidding.enabled,
            command: self.pricing_command(),
            seen: self.seen.subscribe(),
            ground: self.ground.clone(),
            reachability: self.endpoints.reachability(),
            failures: self.failures(),
            left: self.left.clone(),
            metrics: self.counts.clone(),
        }
    }

    fn pricing_command(&self) -> Option<PricingCommand> {
        let bidding = &self.config.bidding;
        (!bidding.command.is_empty()).then(|| PricingCommand {
            command: bidding.command.clone(),
            timeout: bidding.command_timeout,
        })
    }

    /// Of what no part works without.
    fn failures(&self) -> Vec<watch::Receiver<Option<StoreError>>> {
        vec![self.store.database().failure(), self.manifests.store().failure()]
    }
}

fn patience(config: &Config) -> Patience {
    Patience {
        manifest_seconds: config.leases.manifest_timeout.as_secs(),
        start_seconds: config.leases.start_timeout.as_secs(),
        confirmation_depth: config.leases.confirmation_depth,
        removal_depth: config.leases.removal_depth,
        undone_depth: config.leases.undone_depth,
    }
}
