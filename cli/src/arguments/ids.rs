//! Ids as people write them: what is none is told what was expected instead, and where ids are listed.

/// The id of an account.
pub(super) fn account(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(
        |_| "an account is told by its id, a whole number up to 4294967295, for example 7; see `spheron account list`",
    )
}

/// The id of an order.
pub(super) fn order(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(
        |_| "an order is told by its id, a whole number up to 18446744073709551615, for example 4294967297; see `spheron order list`",
    )
}

/// The id of a lease of one's own: that of its order.
pub(super) fn lease(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(
        |_| "a lease is told by its id, a whole number up to 18446744073709551615, for example 4294967297; see `spheron lease list`",
    )
}

/// The id of a lease that a provider serves, which no list of a user's has.
pub(super) fn served_lease(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(
        |_| "a lease is told by its id, a whole number up to 18446744073709551615, for example 4294967297; see the agent's log",
    )
}
