// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {OrderTerms, Task} from "../Types.sol";

/// @title Disputes about matches
/// @notice A challenge is a proof, not a claim: the rule runs on chain over inputs that are all checked against what the
/// chain committed to, and a wrong challenge reverts. No bond is asked for.
///
/// A verdict is about one answer and bears its commitment: `keccak256(abi.encode(digest, closeBlock, signatories))`, whose
/// upper 224 bits stand in the response ring. Every order of the answer that is wrong can be challenged; the signers are
/// slashed once.
interface IMatchingDisputes {
    /// @notice An answer as it was given to {IMatchingTaskManager-respond}.
    /// @param signatories What the quorum verifier returned; not looked at by {reportEquivocation}.
    struct Answer {
        Task task;
        uint256[] matches;
        bytes32 signatories;
    }

    /// @notice What the rule needs of an order, see {IMatchingRule-rank}.
    struct Inputs {
        OrderTerms terms;
        uint256[] bids;
        bytes bidOrder;
    }

    /// @notice An answer is wrong about an order. `undone` tells whether its lease was undone: only if the supplier, rate or
    /// GPU entry taken is not the one the rule's ranks would have led to, and only inside the payout hold.
    event AnswerProvenWrong(
        bytes32 indexed verdict,
        uint64 indexed orderId,
        uint32 indexed closeBlock,
        uint16 chunk,
        address challenger,
        bool undone
    );
    /// @notice An operator signed two outcomes of one order under one close block hash.
    event EquivocationProven(
        bytes32 indexed verdict, uint64 indexed orderId, address indexed operator, uint32 closeBlock, address challenger
    );
    /// @notice Those of the batch that had not been slashed for this verdict before; what was cut is told by {ISlasher}.
    event SignersSlashed(bytes32 indexed verdict, address[] operators);
    /// @notice Who slashes what stands behind answers verified by `verifier`.
    event SlasherSet(address indexed verifier, address slasher);
    /// @notice Challengers are rewarded by `reserve` from now on.
    event ReserveSet(address reserve);
    /// @notice A reward that was due was not paid: the reserve refused or is empty.
    event RewardMissed(bytes32 indexed verdict, address challenger);

    /// @dev The task has no answer (any more) or another one: task, matches or signatories differ.
    error WrongAnswer(uint32 closeBlock, uint16 chunk, uint224 given, uint224 stored);
    /// @dev In blocks. Of {reportEquivocation} `answeredAt` is the close block.
    error ChallengeWindowOver(uint32 answeredAt, uint256 lastBlock, uint256 blockNumber);
    /// @dev The terms given are not those of the order.
    error WrongTerms(uint64 orderId, bytes32 given, bytes32 stored);
    /// @dev The bids are not all of the order's in the round that the task answered.
    error WrongBids(uint64 orderId, uint256 given, uint256 stored);
    /// @dev The answer says nothing about the order.
    error NotInAnswer(uint64 orderId);
    /// @dev The matches break off or are malformed at this index.
    error MalformedMatches(uint256 index);
    /// @dev The rule gives what was answered.
    error AnswerIsRight(uint64 orderId);
    /// @dev This answer was proven wrong about this order before.
    error AlreadyProven(uint64 orderId);
    /// @dev No {challenge} proved this answer wrong.
    error UnknownVerdict(bytes32 verdict);
    /// @dev For this verdict everybody named was slashed before; `operator` is the first of them.
    error AlreadySlashed(bytes32 verdict, address operator);
    /// @dev {slash} names nobody.
    error NoOperators();
    /// @dev Governance named no slasher for the verifier of the close block: see {setSlasher}.
    error NoSlasher(address verifier);
    /// @dev The two answers are not of one close block hash, or say the same about the order.
    error NoContradiction(uint64 orderId);
    /// @dev Of a task manager, a verifier, a slasher or a reserve.
    error NotAContract(address account);
    /// @dev The challenge window does not fit the response ring, or is zero.
    error ChallengeWindowOutOfRange(uint32 challengeBlocks, uint256 limit);

    /// @notice Proves that an answer is wrong about an order, undoes its lease in the user's favour and stores the verdict.
    /// The first challenger of an answer is rewarded.
    function challenge(uint64 orderId, Inputs calldata inputs, Answer calldata answer)
        external
        returns (bytes32 verdict);

    /// @notice Slashes operators that signed an answer proven wrong; in batches, each once.
    /// @param digest What was signed: {IMatchingTaskManager-responseDigest}.
    /// @param evidence For the slasher of the answer's quorum verifier.
    function slash(
        bytes32 digest,
        uint32 closeBlock,
        bytes32 signatories,
        address[] calldata operators,
        bytes calldata evidence
    ) external;

    /// @notice Slashes an operator that signed two outcomes of one order under one close block hash, once per close block.
    /// @param evidence For the slasher: both signatures.
    function reportEquivocation(
        uint64 orderId,
        Answer calldata first,
        Answer calldata second,
        address operator,
        bytes calldata evidence
    ) external returns (bytes32 verdict);

    // ------------------------------------------------------------- governance

    /// @notice Names who slashes for answers that `verifier` verified.
    function setSlasher(address verifier, address slasher) external;
    /// @notice Names who rewards challengers ({ICommissionSplit}).
    function setReserve(address reserve) external;

    // ------------------------------------------------------------------ views

    /// @notice When and by whom a verdict was proven (block, zero if it was not), and the close block it is about.
    function verdictOf(bytes32 verdict) external view returns (uint32 provenAt, uint32 closeBlock, address challenger);
    /// @notice Whether the operator was slashed for the verdict.
    function isSlashed(bytes32 verdict, address operator) external view returns (bool);
    /// @notice The {ISlasher} of answers that `verifier` verified; zero if none was named.
    function slasherOf(address verifier) external view returns (address);
    /// @notice Who rewards challengers; zero if nobody was named, and then nobody is rewarded.
    function reserve() external view returns (address);
    /// @notice Blocks after an answer in which it can be challenged. Equivocation can be reported as long after the last
    /// block of its response window.
    function challengeBlocks() external view returns (uint32);
    /// @notice The {IMatchingTaskManager} whose answers are disputed here. Immutable.
    function taskManager() external view returns (address);
    /// @notice The task manager's {IOrderBook}. Immutable.
    function orderBook() external view returns (address);
}
