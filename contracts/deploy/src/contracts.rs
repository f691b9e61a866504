//! What the deployment calls beside our own interfaces.

use alloy::sol;
use alloy::sol_types::SolInterface as _;

sol! {
    /// OpenZeppelin `AccessManager`.
    #[sol(rpc)]
    interface IAccessManager {
        event OperationScheduled(
            bytes32 indexed operationId, uint32 indexed nonce, uint48 schedule, address caller, address target, bytes data
        );

        error AccessManagerAlreadyScheduled(bytes32 operationId);
        error AccessManagerNotScheduled(bytes32 operationId);
        error AccessManagerNotReady(bytes32 operationId);
        error AccessManagerExpired(bytes32 operationId);
        error AccessManagerUnauthorizedAccount(address msgsender, uint64 roleId);
        error AccessManagerUnauthorizedCall(address caller, address target, bytes4 selector);
        error AccessManagerUnauthorizedCancel(address msgsender, address caller, address target, bytes4 selector);

        function execute(address target, bytes data) external payable returns (uint32);
        function multicall(bytes[] data) external returns (bytes[]);
        function schedule(address target, bytes data, uint48 when) external returns (bytes32 operationId, uint32 nonce);
        function cancel(address caller, address target, bytes data) external returns (uint32);

        function labelRole(uint64 roleId, string label) external;
        function grantRole(uint64 roleId, address account, uint32 executionDelay) external;
        function renounceRole(uint64 roleId, address callerConfirmation) external;
        function revokeRole(uint64 roleId, address account) external;
        function setRoleGuardian(uint64 roleId, uint64 guardian) external;
        function setTargetFunctionRole(address target, bytes4[] selectors, uint64 roleId) external;
        function setTargetClosed(address target, bool closed) external;
        function updateAuthority(address target, address newAuthority) external;

        function canCall(address caller, address target, bytes4 selector) external view returns (bool immediate, uint32 delay);
        function hasRole(uint64 roleId, address account) external view returns (bool isMember, uint32 executionDelay);
        function getTargetFunctionRole(address target, bytes4 selector) external view returns (uint64);
        function getRoleGuardian(uint64 roleId) external view returns (uint64);
        function getRoleAdmin(uint64 roleId) external view returns (uint64);
    }

    interface IOwnable {
        function transferOwnership(address newOwner) external;
    }

    /// Initialisers of our upgradeable contracts.
    interface IInitialise {
        function initialize(address authority) external;
        function initialize(address authority, uint128 minimumStake, uint64 thawPeriod) external;
        function initialize(address authority, address collaborator) external;
    }

    interface IProxyAdmin {
        function upgrade(address proxy, address implementation) external;
        function upgradeAndCall(address proxy, address implementation, bytes data) external payable;
    }

    #[sol(rpc)]
    interface IStrategyFactory {
        function deployNewStrategy(address token) external returns (address);
        function deployedStrategies(address token) external view returns (address);
    }

    #[sol(rpc)]
    interface IAllocationManagerDelays {
        function DEALLOCATION_DELAY() external view returns (uint32);
    }

    #[sol(rpc)]
    interface IDelegationManagerDelays {
        function minWithdrawalDelayBlocks() external view returns (uint32);
    }

    interface IAllocationManagerSlashing {
        struct SlashingParams {
            address operator; uint32 operatorSetId; address[] strategies; uint256[] wadsToSlash; string description;
        }

        function slashOperator(address avs, SlashingParams params) external;
    }

    interface IRewardsCoordinator {
        struct OperatorSet { address avs; uint32 id; }
        struct StrategyAndMultiplier { address strategy; uint96 multiplier; }
        struct OperatorReward { address operator; uint256 amount; }
        struct OperatorDirectedRewardsSubmission {
            StrategyAndMultiplier[] strategiesAndMultipliers; address token; OperatorReward[] operatorRewards;
            uint32 startTimestamp; uint32 duration; string description;
        }

        function createOperatorDirectedOperatorSetRewardsSubmission(
            OperatorSet operatorSet, OperatorDirectedRewardsSubmission[] submissions
        ) external;
    }

    interface IRegistryCoordinator {
        struct OperatorSetParam { uint32 maxOperatorCount; uint16 kickBIPsOfOperatorStake; uint16 kickBIPsOfTotalStake; }
        struct StrategyParams { address strategy; uint96 multiplier; }

        function initialize(
            address initialOwner, address churnApprover, address ejector, uint256 initialPausedStatus, address avs
        ) external;
        function createSlashableStakeQuorum(
            OperatorSetParam operatorSetParams, uint96 minimumStake, StrategyParams[] strategyParams, uint32 lookAheadPeriod
        ) external;
    }
}

/// What the access manager refused, in words.
pub(crate) fn describe_refusal(data: &[u8]) -> Option<String> {
    use IAccessManager::IAccessManagerErrors as Refusal;

    let again = "is not scheduled, or was cancelled: schedule it (again)";
    Some(match Refusal::abi_decode(data).ok()? {
        Refusal::AccessManagerAlreadyScheduled(operation) => {
            format!("operation {} is scheduled already", operation.operationId)
        }
        Refusal::AccessManagerNotScheduled(operation) => format!("operation {} {again}", operation.operationId),
        Refusal::AccessManagerNotReady(operation) => {
            format!("the delay of operation {} is not over", operation.operationId)
        }
        Refusal::AccessManagerExpired(operation) => {
            format!(
                "operation {} was not executed in time: schedule it again",
                operation.operationId
            )
        }
        Refusal::AccessManagerUnauthorizedAccount(refused) => {
            format!("{} does not hold role {}", refused.msgsender, refused.roleId)
        }
        Refusal::AccessManagerUnauthorizedCall(refused) => format!(
            "{} holds no role that may call {} of {} at once",
            refused.caller, refused.selector, refused.target
        ),
        Refusal::AccessManagerUnauthorizedCancel(refused) => format!(
            "{} may not cancel what {} scheduled at {}",
            refused.msgsender, refused.caller, refused.target
        ),
    })
}
