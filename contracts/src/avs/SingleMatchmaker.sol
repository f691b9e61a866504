// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Spon} from "../token/Spon.sol";
import {IMatchingDisputes} from "./IMatchingDisputes.sol";
import {IMatchingTaskManager} from "./IMatchingTaskManager.sol";
import {IQuorumVerifier} from "./IQuorumVerifier.sol";
import {ISingleMatchmaker} from "./ISingleMatchmaker.sol";
import {ISlasher} from "./ISlasher.sol";

/// @title One matchmaker in place of a quorum
/// @dev Another key is another contract, named to the task manager.
contract SingleMatchmaker is ISingleMatchmaker, AccessManaged {
    using SafeCast for uint256;
    using SafeERC20 for Spon;

    /// @dev One slot. What leaves is slashable until it has left.
    struct Bond {
        uint112 counting;
        uint112 leaving;
        uint32 leavesAt;
    }

    /// @dev One slot: what was opened in the running period and in the one before, in SPON units. Periods are as long as the
    /// challenge window, so what can still be disputed is in one of the two.
    struct Exposure {
        uint112 current;
        uint112 previous;
        uint32 period;
    }

    /// @dev Units of one whole SPON.
    uint256 private constant WHOLE_SPON = 1e18;

    Spon private immutable _spon;
    /// @inheritdoc ISingleMatchmaker
    address public immutable matchmaker;
    /// @inheritdoc ISingleMatchmaker
    address public immutable disputes;
    /// @inheritdoc ISingleMatchmaker
    address public immutable taskManager;
    uint256 private immutable _challengeBlocks;
    uint256 private immutable _responseWindow;

    Bond private _bond;
    Exposure private _exposure;
    /// @inheritdoc ISingleMatchmaker
    uint256 public slashAmount;
    /// @inheritdoc ISingleMatchmaker
    mapping(uint8 token => uint256 unitsPerSpon) public coverage;

    constructor(address authority, IMatchingDisputes disputes_, Spon spon, address key, uint256 amount)
        AccessManaged(authority)
    {
        if (key == address(0)) revert NotMatchmaker(key);
        _spon = spon;
        matchmaker = key;
        disputes = address(disputes_);
        taskManager = disputes_.taskManager();
        _challengeBlocks = disputes_.challengeBlocks();
        _responseWindow = IMatchingTaskManager(taskManager).responseWindow();
        _setSlashAmount(amount);
    }

    // --------------------------------------------------------------- verifier

    /// @inheritdoc IQuorumVerifier
    function verify(bytes32 message, uint32 blockReference, bytes calldata proof)
        external
        view
        returns (bytes32 signatories)
    {
        if (blockReference >= block.number) revert ReferenceBlockNotPast(blockReference, block.number);
        if (!_isSigned(message, proof)) revert InvalidSignature(message);
        return _signatories(blockReference);
    }

    /// @inheritdoc IQuorumVerifier
    function capped() external pure returns (bool) {
        return true;
    }

    /// @inheritdoc ISingleMatchmaker
    function hold(uint256[] calldata values) external {
        if (msg.sender != taskManager) revert NotTaskManager(msg.sender);
        uint256 added = 0;
        for (uint256 i = 0; i < values.length; ++i) {
            added += _sponFor(uint8(values[i]), values[i] >> 8);
        }
        Exposure memory exposed = _exposureNow();
        uint256 needed = uint256(exposed.previous) + exposed.current + added;
        // An answer that opens no lease can be wrong too: what a verdict costs stands behind every one.
        if (needed < slashAmount) needed = slashAmount;
        uint256 counting = _bond.counting;
        if (needed > counting) revert BondTooSmall(needed, counting);
        // The bond fits 112 bits, so what it covers does.
        exposed.current += uint112(added);
        _exposure = exposed;
    }

    // ------------------------------------------------------------------- bond

    /// @inheritdoc ISingleMatchmaker
    function deposit(uint256 amount) external {
        if (amount == 0) revert ZeroAmount();
        uint256 counting = _bond.counting + amount;
        _bond.counting = counting.toUint112();
        emit BondDeposited(msg.sender, amount, counting);
        _spon.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc ISingleMatchmaker
    function requestWithdrawal(uint256 amount) external {
        _checkMatchmaker();
        if (amount == 0) revert ZeroAmount();
        Bond memory held = _bond;
        if (amount > held.counting) revert InsufficientBond(held.counting, amount);
        // The rest of a response window in which what was signed can be answered or reported, a challenge window to prove it wrong,
        // another to slash for it.
        uint256 fromBlock = block.number + _responseWindow + 2 * _challengeBlocks + 1;
        held.counting -= uint112(amount);
        held.leaving += uint112(amount);
        held.leavesAt = fromBlock.toUint32();
        _bond = held;
        emit BondWithdrawalRequested(amount, fromBlock);
    }

    /// @inheritdoc ISingleMatchmaker
    function withdraw(address to) external returns (uint256 amount) {
        _checkMatchmaker();
        Bond memory held = _bond;
        amount = held.leaving;
        if (amount == 0) revert NothingRequested();
        if (block.number < held.leavesAt) revert WithdrawalTooEarly(held.leavesAt, block.number);
        (_bond.leaving, _bond.leavesAt) = (0, 0);
        emit BondWithdrawn(to, amount, held.counting);
        _spon.safeTransfer(to, amount);
    }

    // --------------------------------------------------------------- disputes

    /// @inheritdoc ISlasher
    function slash(
        bytes32 verdict,
        uint32 blockReference,
        bytes32 signatories,
        address[] calldata operators,
        bytes calldata
    ) external {
        _checkDisputes();
        bytes32 own = _signatories(blockReference);
        if (own != signatories) revert WrongSignatories(own, signatories);
        for (uint256 i = 0; i < operators.length; ++i) {
            _slash(verdict, operators[i]);
        }
    }

    /// @inheritdoc ISlasher
    function slashEquivocator(
        bytes32 verdict,
        uint32,
        bytes32[2] calldata digests,
        address operator,
        bytes calldata evidence
    ) external {
        _checkDisputes();
        (bytes memory first, bytes memory second) = abi.decode(evidence, (bytes, bytes));
        if (!_isSigned(digests[0], first)) revert NotSignedBy(operator, digests[0]);
        if (!_isSigned(digests[1], second)) revert NotSignedBy(operator, digests[1]);
        _slash(verdict, operator);
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc ISingleMatchmaker
    function setCoverage(uint8 token, uint256 unitsPerSpon) external restricted {
        coverage[token] = unitsPerSpon;
        emit CoverageSet(token, unitsPerSpon);
    }

    /// @inheritdoc ISingleMatchmaker
    function setSlashAmount(uint256 amount) external restricted {
        _setSlashAmount(amount);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc ISingleMatchmaker
    function bond() external view returns (uint256 counting, uint256 leaving, uint256 fromBlock) {
        Bond memory held = _bond;
        return (held.counting, held.leaving, held.leavesAt);
    }

    /// @inheritdoc ISingleMatchmaker
    function exposure() external view returns (uint256) {
        Exposure memory exposed = _exposureNow();
        return uint256(exposed.current) + exposed.previous;
    }

    // ---------------------------------------------------------------- private

    function _checkMatchmaker() private view {
        if (msg.sender != matchmaker) revert NotMatchmaker(msg.sender);
    }

    function _checkDisputes() private view {
        if (msg.sender != disputes) revert NotDisputes(msg.sender);
    }

    function _setSlashAmount(uint256 amount) private {
        // A verdict that costs nothing could not be executed.
        if (amount == 0) revert ZeroAmount();
        slashAmount = amount;
        emit SlashAmountSet(amount);
    }

    /// @dev 65 bytes, low s: one signature for one message.
    function _isSigned(bytes32 message, bytes memory signature) private view returns (bool) {
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecover(message, signature);
        return problem == ECDSA.RecoverError.NoError && signer == matchmaker;
    }

    function _signatories(uint32 blockReference) private view returns (bytes32) {
        return keccak256(abi.encodePacked(blockReference, matchmaker));
    }

    /// @dev Bond that a lease needs, rounded up.
    function _sponFor(uint8 token, uint256 amount) private view returns (uint256) {
        uint256 unitsPerSpon = coverage[token];
        if (unitsPerSpon == 0) revert NotCovered(token);
        return (amount * WHOLE_SPON + unitsPerSpon - 1) / unitsPerSpon;
    }

    function _exposureNow() private view returns (Exposure memory exposed) {
        exposed = _exposure;
        uint32 period = uint32(block.number / _challengeBlocks);
        if (exposed.period == period) return exposed;
        exposed.previous = exposed.period + 1 == period ? exposed.current : 0;
        exposed.current = 0;
        exposed.period = period;
    }

    /// @dev What leaves goes first: the rest goes on standing behind answers.
    function _slash(bytes32 verdict, address operator) private {
        if (operator != matchmaker) revert NotSignatory(operator);
        Bond memory held = _bond;
        uint256 whole = uint256(held.leaving) + held.counting;
        uint256 cut = slashAmount < whole ? slashAmount : whole;
        if (cut == 0) revert NothingCut(operator);
        uint256 fromLeaving = cut < held.leaving ? cut : held.leaving;
        held.leaving -= uint112(fromLeaving);
        held.counting -= uint112(cut - fromLeaving);
        _bond = held;
        emit OperatorSlashed(verdict, operator, 0, cut);
        _spon.burn(cut);
    }
}
