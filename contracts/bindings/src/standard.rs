//! ERC-20 and ERC-721 as far as our agents speak them, and the errors of the libraries below our contracts.

#[allow(missing_docs, clippy::too_many_arguments)]
mod interfaces {
    alloy::sol! {
        #![sol(rpc, all_derives, extra_derives(serde::Serialize, serde::Deserialize))]

        /// A fungible token with its metadata.
        interface IERC20 {
            event Transfer(address indexed from, address indexed to, uint256 value);
            event Approval(address indexed owner, address indexed spender, uint256 value);

            function name() external view returns (string memory);
            function symbol() external view returns (string memory);
            function decimals() external view returns (uint8);
            function totalSupply() external view returns (uint256);
            function balanceOf(address account) external view returns (uint256);
            function transfer(address to, uint256 value) external returns (bool);
            function allowance(address owner, address spender) external view returns (uint256);
            function approve(address spender, uint256 value) external returns (bool);
            function transferFrom(address from, address to, uint256 value) external returns (bool);
        }

        /// A token whose approvals can be signed (ERC-2612), and how it names the domain of such signatures (ERC-5267, or a
        /// version as older tokens have it).
        interface IERC20Permit {
            function nonces(address owner) external view returns (uint256);
            function DOMAIN_SEPARATOR() external view returns (bytes32);
            function version() external view returns (string memory);
            function eip712Domain() external view returns (
                bytes1 fields, string memory name, string memory version, uint256 chainId, address verifyingContract,
                bytes32 salt, uint256[] memory extensions
            );
        }

        /// What an ERC-2612 permit signs.
        struct Permit {
            address owner;
            address spender;
            uint256 value;
            uint256 nonce;
            uint256 deadline;
        }

        /// What Permit2's SignatureTransfer signs, with the tokens below.
        struct PermitTransferFrom {
            TokenPermissions permitted;
            address spender;
            uint256 nonce;
            uint256 deadline;
        }

        /// The tokens of a [`PermitTransferFrom`].
        struct TokenPermissions {
            address token;
            uint256 amount;
        }

        /// Chainlink's AggregatorV3 interface, as far as it is read here.
        interface IPriceFeed {
            function latestRoundData() external view returns (
                uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound
            );
        }

        /// Which of Permit2's unordered nonces are used: one bit each, in words of 256.
        interface IPermit2 {
            function nonceBitmap(address owner, uint256 word) external view returns (uint256);
        }

        /// A non-fungible token, as escrow accounts are.
        interface IERC721 {
            event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);
            event Approval(address indexed owner, address indexed approved, uint256 indexed tokenId);
            event ApprovalForAll(address indexed owner, address indexed operator, bool approved);

            function balanceOf(address owner) external view returns (uint256);
            function ownerOf(uint256 tokenId) external view returns (address);
            function approve(address to, uint256 tokenId) external;
            function getApproved(uint256 tokenId) external view returns (address);
            function setApprovalForAll(address operator, bool approved) external;
            function isApprovedForAll(address owner, address operator) external view returns (bool);
            function transferFrom(address from, address to, uint256 tokenId) external;
            function safeTransferFrom(address from, address to, uint256 tokenId) external;
        }

        /// Errors of OpenZeppelin's and Solady's contracts that reach whoever calls ours.
        interface ILibraryErrors {
            error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
            error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
            error ERC20InvalidReceiver(address receiver);
            error ERC20InvalidSpender(address spender);
            error SafeERC20FailedOperation(address token);
            error ERC721NonexistentToken(uint256 tokenId);
            error ERC721IncorrectOwner(address sender, uint256 tokenId, address owner);
            error ERC721InsufficientApproval(address operator, uint256 tokenId);
            error ERC721InvalidReceiver(address receiver);
            error AccessManagedUnauthorized(address caller);
            error AccessManagedRequiredDelay(address caller, uint32 delay);
            error AccessManagerUnauthorizedAccount(address account, uint64 roleId);
            error InvalidInitialization();
            error EnforcedPause();
            error InsufficientBalance();
            error InsufficientAllowance();
            error TransferFailed();
            error TransferFromFailed();
            error TokenDoesNotExist();
            error NotOwnerNorApproved();
            error Reentrancy();
            error ReentrancyGuardReentrantCall();
            error InvalidAccountNonce(address account, uint256 currentNonce);
            error ERC2612ExpiredSignature(uint256 deadline);
            error ERC2612InvalidSigner(address signer, address owner);
            error SafeCastOverflowedUintDowncast(uint8 bits, uint256 value);
            error InvalidNonce();
            error InvalidSigner();
            error InvalidSignatureLength();
            error InvalidContractSignature();
            error SignatureExpired(uint256 signatureDeadline);
            error InvalidAmount(uint256 maxAmount);
        }

        /// Errors of EigenLayer's registry coordinator that a refresh of the operators' stakes can meet.
        interface ICoordinatorErrors {
            error QuorumOperatorCountMismatch();
            error NotSorted();
            error QuorumDoesNotExist();
            error InputLengthMismatch();
            error CurrentlyPaused();
        }
    }
}

pub use interfaces::*;
