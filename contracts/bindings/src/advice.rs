//! What to do about a revert: the fix of every error that a user, a provider or whoever brings transactions in can meet.

/// The fix of an error of our interfaces, by its name; none for what only a program that is wrong can cause.
pub(crate) fn advice(error: &str) -> Option<&'static str> {
    FIXES.iter().find(|(name, _)| *name == error).map(|(_, fix)| *fix)
}

/// Error and fix. One name has one fix, whichever interface declares it.
const FIXES: &[(&str, &str)] = &[
    // Accounts and money.
    (
        "NotAccountOwner",
        "use the key of the account's owner, or ask the owner for a spending right",
    ),
    (
        "SpendingRightExpired",
        "ask the account's owner for a new spending right, with a later expiry",
    ),
    (
        "SpendingLimitExceeded",
        "ask the account's owner for a higher limit, or ask for less",
    ),
    (
        "SpenderIsOwner",
        "the owner may spend everything already; name another address",
    ),
    ("UnknownAccount", "open it first, or correct its number"),
    ("AccountsExhausted", "use an account that is there"),
    ("UnknownToken", "use a token that the network lists"),
    (
        "TokenNotEnabled",
        "use another token; what is deposited can be withdrawn, and leases go on",
    ),
    (
        "CapExceeded",
        "deposit less, or use another token: governance limits what the escrow holds of this one",
    ),
    (
        "GasTooLow",
        "send the deposit with a gas limit of 500 000 or more; what is not used comes back",
    ),
    ("ZeroAmount", "give an amount above zero"),
    (
        "InvalidRecipient",
        "name another receiver: tokens sent there would be lost",
    ),
    ("InsufficientBalance", "deposit the difference, or ask for less"),
    ("BalanceTooLarge", "use another account for the rest"),
    (
        "TransferMismatch",
        "use another token: this one takes a fee or moves something else than it is told",
    ),
    (
        "NothingToWithdraw",
        "nothing is owed to this address in this token; settle its leases first",
    ),
    (
        "NoUsablePrice",
        "try again when the token's price feed is fresh; the bracket stays as it is until then",
    ),
    (
        "NoncesExhausted",
        "open another account for further orders in this token",
    ),
    (
        "NotPaymentTokens",
        "tokens are listed through the payment tokens contract",
    ),
    ("TokenAddressFixed", "list the other token under an id of its own"),
    ("TokenIdOutOfRange", "use a lower id"),
    ("UnknownFeeSchedule", "add the fee schedule first, or correct its id"),
    ("FeeSchedulesExhausted", "use a schedule that is there"),
    ("FeesTooHigh", "lower the fees: the limit is fixed for ever"),
    (
        "GatewayShareTooHigh",
        "lower the gateway's share: the limit is fixed for ever",
    ),
    ("RebateIsNegative", "the rebated commission must be the lower one"),
    ("MatchFeeTooPrecise", "round the match fee to six digits"),
    // Orders.
    (
        "InvalidResources",
        "ask for CPU and memory, and for GPUs only together with their models",
    ),
    ("InvalidRequirements", "derive the terms again from the deployment file"),
    ("NoRegionAccepted", "accept at least one region"),
    ("ManifestHashIsZero", "derive the terms from a deployment file"),
    ("RateOutOfRange", "correct the price"),
    ("DurationOutOfRange", "correct the duration"),
    ("BidWindowTooLong", "ask for a shorter bid window"),
    (
        "WrongParamsVersion",
        "derive the terms again: governance has changed the matching parameters since",
    ),
    ("SupplierListTooLong", "name fewer suppliers"),
    (
        "SupplierListNotAscending",
        "name each supplier once, in ascending order",
    ),
    ("WrongState", "look at the order's state: it moved on meanwhile"),
    (
        "BidWindowOver",
        "wait for the answer; after the response window the order can be taken back",
    ),
    ("NotYetExpirable", "wait until that block"),
    (
        "MarketPaused",
        "try again when the pause is over; withdrawing, settling, extending and closing go on",
    ),
    (
        "AboveBracket",
        "deposit more, let the bracket be set again if prices have moved, or ask for less",
    ),
    ("NoSuchFunction", "this program is newer or older than the contracts"),
    // Suppliers.
    ("NotSupplier", "register first, and use the key of the registration"),
    ("NotSupplierOwner", "use the key of the supplier that serves the lease"),
    (
        "SupplierInactive",
        "switch capacity on, stake the minimum, and end a suspension",
    ),
    ("NotBehindGateway", "name a fizz node that is attached to this provider"),
    ("RateAboveMaximum", "bid the order's maximum or less"),
    ("RateIsZero", "give a rate above zero"),
    ("BidLimitReached", "bid on other orders"),
    (
        "BidsNotAscending",
        "place the bids of a block in ascending order, or wait for the next block",
    ),
    (
        "InvalidCapacity",
        "give every GPU entry an id that the registry knows and a count",
    ),
    ("NothingDue", "wait until something accrued and the payout hold is over"),
    ("MixedTokens", "withdraw the leases of each token apart"),
    ("NoCapacity", "offer more capacity, or refuse the update"),
    // Leases.
    (
        "InvalidCloseReason",
        "close with a reason that is yours: users, providers and the end of time have different ones",
    ),
    (
        "LeaseNotOver",
        "wait until its end and grace are over, or close it as its user or provider",
    ),
    ("LeaseOver", "it can only be closed; order anew"),
    ("WrongResources", "give the resources of the order's own terms"),
    (
        "PayoutHoldOver",
        "the lease stands; only its user, its provider or its end close it",
    ),
    (
        "BilledOutOfRange",
        "bill at least what is paid and at most what has passed",
    ),
    ("ExtensionIsZero", "extend by at least a second"),
    (
        "NoUpdateProposed",
        "propose the update (again): there is none, or it fell because the account changed hands, the spending right it was made by was set \
         anew or has expired, or the token got other fees",
    ),
    ("OtherUpdateProposed", "read the newest proposal: it replaced this one"),
    ("UpdateExpired", "propose the update again, with a later expiry"),
    ("ExpiryPassed", "give a time to come"),
    ("InvalidRating", "rate from 1 to 10"),
    ("AlreadyRated", "a lease is rated once"),
    (
        "NotPaidInFull",
        "settle the lease first; one that paid no fees, or was undone, is not rated",
    ),
    (
        "OtherFeeSchedule",
        "have it signed again: the token's fees have changed since",
    ),
    ("SignatureExpired", "have it signed again, with a later deadline"),
    (
        "WrongNonce",
        "have it signed again: it was brought in before or revoked, or one that was signed earlier comes first",
    ),
    (
        "InvalidSignature",
        "have it signed again: it was altered, or signed by another key or for another chain or market",
    ),
    // Payment tokens.
    ("TokenListFull", "no further token can be listed"),
    ("TokenListedAlready", "change the token under its id"),
    (
        "UnsuitableToken",
        "list a contract that answers decimals() with 18 or less",
    ),
    ("InvalidSymbol", "use 1 to 11 letters or digits"),
    ("UnknownTokenId", "use an id of the list"),
    (
        "UnsuitableFeed",
        "name a feed with 18 decimals or less, a heartbeat and bounds that let a price pass",
    ),
    ("StalePrice", "try again when the feed was updated"),
    (
        "PriceOutOfBounds",
        "wait for a price within the bounds, or have governance move them",
    ),
    ("FeedBroken", "try again when the feed answers"),
    ("InvalidStatus", "use another status"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::revert::error_names;

    /// Errors that say who may call: nothing a user could do better.
    const OF_PROGRAMS: &[&str] = &[
        "NotOrderBook",
        "NotTaskManager",
        "NotProviderRegistry",
        "NotDisputes",
        "NotSlasher",
        "OutsideResponseWindow",
        "MalformedMatches",
        "OrdersNotAscending",
        "TooManyRanks",
        "SupplierExists",
        "OwnerHasSupplier",
        "UnknownSupplier",
        "EmptyBatch",
        "InvalidParameters",
        "WrongEscrow",
        "CollaboratorIsZero",
        "NothingProposed",
        "ChangeTooEarly",
    ];

    #[test]
    fn every_error_of_the_market_names_its_fix_and_no_fix_is_of_an_error_that_is_gone() {
        let declared: BTreeSet<&str> = error_names().collect();
        for (name, _) in FIXES {
            assert!(declared.contains(name), "no interface declares {name}");
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
        for file in [
            "market/IOrderBook",
            "market/ILeases",
            "market/IEscrow",
            "registry/IPaymentTokens",
        ] {
            let path = sources.join(format!("{file}.sol"));
            let text = std::fs::read_to_string(&path).expect("the interface");
            let names = text.lines().filter_map(|line| line.trim().strip_prefix("error "));
            let mut found = 0;
            for name in names.filter_map(|rest| rest.split('(').next()) {
                found += 1;
                assert!(
                    advice(name).is_some() || OF_PROGRAMS.contains(&name),
                    "{file} declares {name}: say in FIXES what to do about it"
                );
            }
            assert!(found > 5, "{file}: {found} errors found");
        }
    }

    #[test]
    fn an_error_has_one_fix() {
        let names: BTreeSet<&str> = FIXES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), FIXES.len());
    }
}
