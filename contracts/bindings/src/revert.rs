//! Reverts as sentences: a person reads what was refused and with which values, never a selector.

use alloy::{
    primitives::{Address, U256, hex},
    sol_types::{Panic, Revert, SolError},
};

use crate::OrderState;
use crate::advice::advice;
use crate::standard::{ICoordinatorErrors, ILibraryErrors};

/// A custom error as its declaration has it.
struct ErrorShape {
    selector: [u8; 4],
    name: &'static str,
    /// Solidity type and name of each operand.
    operands: &'static [(&'static str, &'static str)],
}

/// Every error of our interfaces; the build script writes the list.
const OURS: &[ErrorShape] = include!(concat!(env!("OUT_DIR"), "/errors.rs"));

macro_rules! error_shapes {
    ($interface:ident: $($name:ident($($kind:ident $operand:ident),*)),* $(,)?) => {
        &[$(ErrorShape {
            selector: <$interface::$name as SolError>::SELECTOR,
            name: stringify!($name),
            operands: &[$((stringify!($kind), stringify!($operand))),*],
        }),*]
    };
}

const LIBRARIES: &[ErrorShape] = error_shapes![ILibraryErrors:
    ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed),
    ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed),
    ERC20InvalidReceiver(address receiver),
    ERC20InvalidSpender(address spender),
    SafeERC20FailedOperation(address token),
    ERC721NonexistentToken(uint256 tokenId),
    ERC721IncorrectOwner(address sender, uint256 tokenId, address owner),
    ERC721InsufficientApproval(address operator, uint256 tokenId),
    ERC721InvalidReceiver(address receiver),
    AccessManagedUnauthorized(address caller),
    AccessManagedRequiredDelay(address caller, uint32 delay),
    AccessManagerUnauthorizedAccount(address account, uint64 roleId),
    InvalidInitialization(),
    EnforcedPause(),
    InsufficientBalance(),
    InsufficientAllowance(),
    TransferFailed(),
    TransferFromFailed(),
    TokenDoesNotExist(),
    NotOwnerNorApproved(),
    Reentrancy(),
    ReentrancyGuardReentrantCall(),
    InvalidAccountNonce(address account, uint256 currentNonce),
    ERC2612ExpiredSignature(uint256 deadline),
    ERC2612InvalidSigner(address signer, address owner),
    SafeCastOverflowedUintDowncast(uint8 bits, uint256 value),
    InvalidNonce(),
    InvalidSigner(),
    InvalidSignatureLength(),
    InvalidContractSignature(),
    SignatureExpired(uint256 signatureDeadline),
    InvalidAmount(uint256 maxAmount),
];

/// What EigenLayer's registry coordinator says to a refresh of the operators' stakes.
const COORDINATOR: &[ErrorShape] = error_shapes![ICoordinatorErrors:
    QuorumOperatorCountMismatch(),
    NotSorted(),
    QuorumDoesNotExist(),
    InputLengthMismatch(),
    CurrentlyPaused(),
];

fn known_errors() -> impl Iterator<Item = &'static ErrorShape> {
    OURS.iter().chain(LIBRARIES).chain(COORDINATOR)
}

/// A readable sentence for the data of a revert: our custom errors, those of the libraries and of the
/// coordinator below, `require` strings and
/// panics. `None` if the data is none of these.
///
/// The form is the error's name in words, its operands, and what to do about it where a person can do something:
/// `wrong close block hash (close block: 7, given: 0x…, …)`, `extension is zero (order id: 7): extend by at least a second`.
pub fn describe_revert(data: &[u8]) -> Option<String> {
    describe_revert_with(data, |_, _| None)
}

/// An operand of a custom error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operand {
    /// Its Solidity type.
    pub kind: &'static str,
    /// Its name in the declaration.
    pub name: &'static str,
    /// Its word; of a string the offset.
    pub word: U256,
}

/// [`describe_revert`] for whoever knows more of an operand than its number: `shown` gets it with all of its error, and what it
/// answers stands in the sentence.
pub fn describe_revert_with(data: &[u8], shown: impl Fn(&Operand, &[Operand]) -> Option<String>) -> Option<String> {
    if let Ok(Revert { reason }) = Revert::abi_decode(data) {
        return Some(reason);
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return Some(panic.to_string());
    }
    let (selector, operands) = data.split_at_checked(4)?;
    let shape = known_errors().find(|shape| shape.selector == selector)?;
    shape.describe(operands, &shown)
}

impl ErrorShape {
    fn describe(&self, data: &[u8], shown: &impl Fn(&Operand, &[Operand]) -> Option<String>) -> Option<String> {
        let mut operands = Vec::with_capacity(self.operands.len());
        for (index, (kind, name)) in self.operands.iter().enumerate() {
            let word = U256::from_be_slice(data.get(index * 32..index * 32 + 32)?);
            operands.push(Operand { kind, name, word });
        }
        let mut values = Vec::with_capacity(operands.len());
        for operand in &operands {
            let text = match shown(operand, &operands) {
                Some(text) => text,
                None => value(operand.kind, operand.word.to_be_bytes(), data)?,
            };
            values.push(format!("{}: {text}", words(operand.name)));
        }
        let mut sentence = words(self.name);
        if !values.is_empty() {
            sentence.push_str(&format!(" ({})", values.join(", ")));
        }
        if let Some(fix) = advice(self.name) {
            sentence.push_str(&format!(": {fix}"));
        }
        Some(sentence)
    }
}

/// Names of the errors of our interfaces.
#[cfg(test)]
pub(crate) fn error_names() -> impl Iterator<Item = &'static str> {
    OURS.iter().map(|shape| shape.name)
}

/// One operand; what is neither number, address nor bytes is an enum or a contract, both shown by their number.
fn value(kind: &str, word: [u8; 32], data: &[u8]) -> Option<String> {
    match kind {
        "address" => Some(Address::from_word(word.into()).to_checksum(None)),
        "bool" => Some((word[31] != 0).to_string()),
        "OrderState" => {
            let state = u8::try_from(U256::from_be_bytes(word)).ok()?;
            Some(words(&format!("{:?}", OrderState::try_from(state).ok()?)))
        }
        "string" => {
            let offset = usize::try_from(U256::from_be_bytes(word)).ok()?;
            let length_word: [u8; 32] = data.get(offset..offset.checked_add(32)?)?.try_into().ok()?;
            let length = usize::try_from(U256::from_be_bytes(length_word)).ok()?;
            let text = data.get(offset + 32..)?.get(..length)?;
            Some(format!("{:?}", String::from_utf8_lossy(text)))
        }
        _ if kind.starts_with("int") => Some(alloy::primitives::I256::from_be_bytes(word).to_string()),
        _ => match kind.strip_prefix("bytes").map(str::parse::<usize>) {
            Some(Ok(length)) => Some(hex::encode_prefixed(word.get(..length)?)),
            Some(Err(_)) => None,
            None => Some(U256::from_be_bytes(word).to_string()),
        },
    }
}

/// `WrongCloseBlockHash` becomes `wrong close block hash`, `ERC20InvalidSpender` becomes `ERC20 invalid spender`.
fn words(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::with_capacity(name.len() + 8);
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|previous| letters[previous]);
        let after = letters.get(index + 1);
        let starts_word = letter.is_uppercase()
            && before.is_some_and(|before| !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase()));
        if starts_word {
            text.push(' ');
        }
        // A run of capitals is an acronym and stays as it is.
        let acronym = letter.is_uppercase()
            && (after.is_some_and(|after| !after.is_lowercase()) || before.is_some_and(|before| before.is_uppercase()))
            && !after.is_some_and(|after| after.is_lowercase());
        if acronym {
            text.push(*letter)
        } else {
            text.extend(letter.to_lowercase())
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, address};

    use super::*;
    use crate::{IEscrow, ILeases, IMatchingTaskManager};

    #[test]
    fn a_custom_error_names_its_operands() {
        let error = IMatchingTaskManager::WrongCloseBlockHash {
            closeBlock: 7,
            given: B256::repeat_byte(0x11),
            actual: B256::repeat_byte(0x22),
        };
        let given = "11".repeat(32);
        let actual = "22".repeat(32);
        assert_eq!(
            describe_revert(&error.abi_encode()).as_deref(),
            Some(format!("wrong close block hash (close block: 7, given: 0x{given}, actual: 0x{actual})").as_str())
        );
    }

    #[test]
    fn what_a_user_can_do_about_an_error_stands_behind_it() {
        let error = ILeases::InvalidCloseReason {
            orderId: 7,
            reason: OrderState::ClosedAtEnd,
        };
        let sentence = describe_revert(&error.abi_encode()).expect("known");
        assert!(
            sentence.starts_with("invalid close reason (order id: 7, reason: closed at end): close with a reason"),
            "{sentence}"
        );
        let error = IEscrow::SpendingLimitExceeded {
            account: 1,
            token: 2,
            spender: Address::ZERO,
            left: U256::from(3),
            needed: U256::from(4),
        };
        let sentence = describe_revert(&error.abi_encode()).expect("known");
        assert!(
            sentence.contains("left: 3, needed: 4): ask the account's owner"),
            "{sentence}"
        );
    }

    #[test]
    fn errors_of_libraries_strings_and_panics_are_known() {
        let caller = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        let error = ILibraryErrors::AccessManagedUnauthorized { caller };
        assert_eq!(
            describe_revert(&error.abi_encode()).as_deref(),
            Some("access managed unauthorized (caller: 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266)")
        );
        assert_eq!(
            describe_revert(&Revert::from("too late").abi_encode()).as_deref(),
            Some("too late")
        );
        assert!(describe_revert(&Panic::from(0x11_u64).abi_encode()).is_some_and(|text| text.contains("overflow")));
        assert_eq!(words("ERC20InvalidSpender"), "ERC20 invalid spender");
        assert_eq!(words("tokenId"), "token id");
    }

    #[test]
    fn errors_of_the_coordinator_are_known() {
        // As a refresh got it from EigenLayer's contract, when operators had joined meanwhile.
        assert_eq!(
            describe_revert(&[0x8e, 0x5a, 0xee, 0xe7]).as_deref(),
            Some("quorum operator count mismatch")
        );
        let error = ICoordinatorErrors::CurrentlyPaused {};
        assert_eq!(
            describe_revert(&error.abi_encode()).as_deref(),
            Some("currently paused")
        );
    }

    #[test]
    fn foreign_and_truncated_data_is_none() {
        assert_eq!(describe_revert(&[]), None);
        assert_eq!(describe_revert(&[1, 2, 3]), None);
        assert_eq!(describe_revert(&[0xde, 0xad, 0xbe, 0xef, 0]), None);
        let mut error = IMatchingTaskManager::ChunkOutOfRange { chunk: 65, limit: 64 }.abi_encode();
        error.truncate(40);
        assert_eq!(describe_revert(&error), None);
    }

    #[test]
    fn no_two_errors_share_a_selector() {
        let mut seen = std::collections::BTreeMap::new();
        for shape in known_errors() {
            if let Some(other) = seen.insert(shape.selector, shape.name) {
                assert_eq!(
                    other, shape.name,
                    "two different errors with selector {:?}",
                    shape.selector
                );
            }
        }
    }
}
