//! Who may call what (`roles.toml`), as the access manager is told.

use std::collections::BTreeMap;

use alloy::primitives::{Address, FixedBytes, keccak256};
use alloy::sol_types::SolCall;
use serde::Deserialize;

use crate::contracts::IAccessManager;
use crate::parameters::Governance;

/// Roles of the access manager; the discriminant is its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u64)]
pub enum Role {
    /// OpenZeppelin's `ADMIN_ROLE`: grants roles, and calls what the table does not name.
    Admin = 0,
    Governor = 1,
    Upgrader = 2,
    TokenLister = 3,
    Verifier = 4,
    Guardian = 5,
}

impl Role {
    /// All that are granted.
    pub const ALL: [Self; 6] = [
        Self::Admin,
        Self::Governor,
        Self::Upgrader,
        Self::TokenLister,
        Self::Verifier,
        Self::Guardian,
    ];

    /// Its number in the access manager.
    pub fn id(self) -> u64 {
        self as u64
    }

    /// Its name in the table and in the access manager's `RoleLabel` events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Governor => "governor",
            Self::Upgrader => "upgrader",
            Self::TokenLister => "token_lister",
            Self::Verifier => "verifier",
            Self::Guardian => "guardian",
        }
    }

    /// Who holds it, and after how many seconds what the holder schedules can be executed.
    pub fn holder(self, governance: &Governance) -> (Address, u32) {
        match self {
            Self::Governor => (governance.governor, governance.delay),
            Self::Admin | Self::Upgrader => (governance.governor, governance.upgrade_delay),
            Self::TokenLister => (governance.token_lister, governance.listing_delay),
            Self::Verifier => (governance.verifier, 0),
            Self::Guardian => (governance.guardian, 0),
        }
    }

    /// Whether the guardian can cancel what a holder of the role has scheduled.
    pub fn is_guarded(self) -> bool {
        matches!(
            self,
            Self::Governor | Self::Upgrader | Self::TokenLister | Self::Verifier
        )
    }
}

/// A restricted function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restricted {
    /// As Solidity names it.
    pub contract: String,
    /// Canonical signature.
    pub function: String,
    pub role: Role,
}

impl Restricted {
    /// First four bytes of a call.
    pub fn selector(&self) -> FixedBytes<4> {
        selector(&self.function)
    }
}

fn selector(signature: &str) -> FixedBytes<4> {
    FixedBytes::from_slice(&keccak256(signature)[..4])
}

/// The table, in the order of contracts and roles.
pub fn table() -> Vec<Restricted> {
    let contracts: BTreeMap<String, BTreeMap<Role, Vec<String>>> =
        toml::from_str(include_str!("../roles.toml")).expect("the table in the tree is valid: a test reads it");
    let mut table = Vec::new();
    for (contract, roles) in contracts {
        for (role, functions) in roles {
            table.extend(functions.into_iter().map(|function| Restricted {
                contract: contract.clone(),
                function,
                role,
            }));
        }
    }
    table
}

/// The manager's own functions that the guardian can cancel. Not those that take a guardian's role away: one that vetoes
/// everything has to go.
pub const CANCELLABLE: [FixedBytes<4>; 4] = [
    FixedBytes(IAccessManager::grantRoleCall::SELECTOR),
    FixedBytes(IAccessManager::setTargetFunctionRoleCall::SELECTOR),
    FixedBytes(IAccessManager::setTargetClosedCall::SELECTOR),
    FixedBytes(IAccessManager::updateAuthorityCall::SELECTOR),
];

/// Calls of the access manager that give a contract's functions to their roles.
pub(crate) fn assignments(contract: &str, target: Address) -> Vec<Vec<u8>> {
    let mut by_role: BTreeMap<Role, Vec<FixedBytes<4>>> = BTreeMap::new();
    for restricted in table().iter().filter(|restricted| restricted.contract == contract) {
        by_role.entry(restricted.role).or_default().push(restricted.selector());
    }
    by_role
        .into_iter()
        .map(|(role, selectors)| assign(target, selectors, role))
        .collect()
}

fn assign(target: Address, selectors: Vec<FixedBytes<4>>, role: Role) -> Vec<u8> {
    IAccessManager::setTargetFunctionRoleCall {
        target,
        selectors,
        roleId: role.id(),
    }
    .abi_encode()
}

/// What the deployer does last: gives every function to its role, every role to its holder, and its own role back.
pub(crate) fn hand_over(
    access_manager: Address,
    contracts: &[(&str, Address)],
    governance: &Governance,
    deployer: Address,
) -> Vec<Vec<u8>> {
    let mut calls: Vec<Vec<u8>> = contracts
        .iter()
        .flat_map(|(contract, target)| assignments(contract, *target))
        .collect();
    // Who may call these is fixed in the manager; the role named here only decides whose guardian may cancel them.
    calls.push(assign(access_manager, CANCELLABLE.to_vec(), Role::Governor));
    for role in Role::ALL {
        if role != Role::Admin {
            let label = role.name().to_owned();
            calls.push(
                IAccessManager::labelRoleCall {
                    roleId: role.id(),
                    label,
                }
                .abi_encode(),
            );
        }
        if role.is_guarded() {
            let guarded = IAccessManager::setRoleGuardianCall {
                roleId: role.id(),
                guardian: Role::Guardian.id(),
            };
            calls.push(guarded.abi_encode());
        }
    }
    // The deployer's own role comes last: from a delay on, it could do none of the above.
    for role in Role::ALL.into_iter().rev() {
        let (account, delay) = role.holder(governance);
        let granted = IAccessManager::grantRoleCall {
            roleId: role.id(),
            account,
            executionDelay: delay,
        };
        calls.push(granted.abi_encode());
    }
    if deployer != governance.governor {
        let renounced = IAccessManager::renounceRoleCall {
            roleId: Role::Admin.id(),
            callerConfirmation: deployer,
        };
        calls.push(renounced.abi_encode());
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_and_names_every_function_once() {
        let table = table();
        for (index, restricted) in table.iter().enumerate() {
            let same =
                |other: &Restricted| other.contract == restricted.contract && other.selector() == restricted.selector();
            assert!(
                !table[..index].iter().any(same),
                "{}.{} stands in the table twice",
                restricted.contract,
                restricted.function
            );
        }
        assert!(table.iter().all(|restricted| restricted.role != Role::Admin));
    }

    /// As OpenZeppelin and our own interfaces have them.
    #[test]
    fn signatures_become_selectors() {
        let known = [
            ("upgradeToAndCall(address,bytes)", [0x4f, 0x1e, 0xf2, 0x86]),
            ("pause()", [0x84, 0x56, 0xcb, 0x59]),
            (
                "addFeeSchedule((uint16,uint16,uint16,uint16,uint96),uint16)",
                bindings::IEscrow::addFeeScheduleCall::SELECTOR,
            ),
            (
                "list(address,string,uint16,(address,uint32,uint128,uint128),uint128)",
                bindings::IPaymentTokens::listCall::SELECTOR,
            ),
        ];
        for (signature, expected) in known {
            assert_eq!(selector(signature), FixedBytes(expected), "{signature}");
        }
    }
}
