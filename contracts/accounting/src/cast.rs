//! Who acts. The model knows nobody's address: the harness gives each a key.

/// Everybody who holds tokens, an account, a credit or an office.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The zero address.
    Nobody,
    /// The escrow contract itself: what it holds, and a recipient that must be refused.
    Escrow,
    Governor,
    Alice,
    Bob,
    Carol,
    /// Is given spending rights, and holds tokens with a permit but without an allowance.
    Sam,
    /// Is given nothing.
    Stranger,
    Provider1,
    Provider2,
    /// Owns the fizz node behind the first provider.
    Fizz1,
    /// Owns the fizz node behind the second provider.
    Fizz2,
    Foundation1,
    Foundation2,
    Responder,
    TaskManager,
    Disputes,
    Slasher,
}

impl Who {
    pub const ALL: [Self; 18] = [
        Self::Nobody,
        Self::Escrow,
        Self::Governor,
        Self::Alice,
        Self::Bob,
        Self::Carol,
        Self::Sam,
        Self::Stranger,
        Self::Provider1,
        Self::Provider2,
        Self::Fizz1,
        Self::Fizz2,
        Self::Foundation1,
        Self::Foundation2,
        Self::Responder,
        Self::TaskManager,
        Self::Disputes,
        Self::Slasher,
    ];

    /// Who owns accounts.
    pub const USERS: [Self; 3] = [Self::Alice, Self::Bob, Self::Carol];
    /// Who owns suppliers.
    pub const SUPPLIERS: [Self; 4] = [Self::Provider1, Self::Provider2, Self::Fizz1, Self::Fizz2];
    /// Who signs permits, orders and closes.
    pub const SIGNERS: [Self; 5] = [Self::Alice, Self::Bob, Self::Carol, Self::Sam, Self::Stranger];

    /// Whether nothing can be sent there.
    pub fn receives_nothing(self) -> bool {
        matches!(self, Self::Nobody | Self::Escrow)
    }
}
