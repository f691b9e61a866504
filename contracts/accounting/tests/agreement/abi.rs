//! What the contracts are called with: ours from the interface files, others' as far as they are used.

#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/interfaces.rs"));

alloy_sol_types::sol! {
    interface IToken {
        function balanceOf(address holder) external view returns (uint256);
        function transfer(address to, uint256 amount) external returns (bool);
        function approve(address spender, uint256 amount) external returns (bool);
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
    }

    interface IAccountToken {
        function approve(address to, uint256 account) external;
        function transferFrom(address from, address to, uint256 account) external;
    }

    /// Arguments of constructors that have dynamic or nested ones.
    interface IConstructors {
        function developmentToken(string name, string symbol, uint8 decimals, uint256 wholeSupply) external;
        function proxy(address implementation, bytes data) external;
    }

    interface IManaged {
        function initialize(address authority) external;
    }

    interface IManagedRegistry {
        function initialize(address authority, address stakeManager) external;
    }

    interface IManagedStakes {
        function initialize(address authority, uint128 minimumStake, uint64 thawPeriod) external;
    }

    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        address spender;
        uint256 nonce;
        uint256 deadline;
    }

    struct Permit {
        address owner;
        address spender;
        uint256 value;
        uint256 nonce;
        uint256 deadline;
    }
}

/// Of an error that one of the interfaces declares.
pub fn name_of_error(data: &[u8]) -> Option<&'static str> {
    let selector: [u8; 4] = data.get(..4)?.try_into().ok()?;
    IOrderBook::IOrderBookErrors::name_by_selector(selector)
        .or_else(|| ILeases::ILeasesErrors::name_by_selector(selector))
        .or_else(|| IEscrow::IEscrowErrors::name_by_selector(selector))
        .or_else(|| IPaymentTokens::IPaymentTokensErrors::name_by_selector(selector))
        .or_else(|| IProviderRegistry::IProviderRegistryErrors::name_by_selector(selector))
}
