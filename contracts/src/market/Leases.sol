// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {EIP712} from "solady/utils/EIP712.sol";

import {IProviderRegistry} from "../registry/IProviderRegistry.sol";
import {CloseRequest, LeaseResources, OrderRequest, OrderState, OrderTerms, UpdateProposal} from "../Types.sol";
import {Capacity} from "./Capacity.sol";
import {IEscrow} from "./IEscrow.sol";
import {ILeases} from "./ILeases.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {MarketState} from "./MarketState.sol";
import {OrderId, OrderWord, PayeeWord, ResourceWord, ScoreCardWord} from "./Resources.sol";
import {Terms} from "./Terms.sol";

/// @title Leases
/// @notice Code that the order book runs on its own storage: what happens to a lease after its match, and what others bring in
/// for a signer. At its own address it holds nothing and answers nothing.
/// @dev Solady's EIP712 keeps nothing in storage, so that no slot of the order book has two owners; called from another
/// address than its own it builds the domain anew, with the order book as the verifying contract.
contract Leases is MarketState, ILeases, EIP712 {
    using Capacity for uint256;
    using OrderWord for uint256;
    using PayeeWord for uint256;

    /// @dev Ratings go from 1 to this.
    uint8 private constant HIGHEST_RATING = 10;
    /// @dev Nobody gets more time for free after the end than this part of what was ordered, or is called low on funds for more
    /// than this part of it.
    uint256 private constant GRACE_PART = 16;
    uint256 private constant LOW_FUNDS_PART = 4;

    bytes32 private constant ORDER_REQUEST = keccak256(
        abi.encodePacked(
            "OrderRequest(address signer,uint32 account,uint8 token,uint16 bidWindow,uint16 feeSchedule,OrderTerms terms,uint256 nonce,uint256 deadline)",
            Terms.TYPE
        )
    );
    bytes32 private constant CLOSE_REQUEST =
        keccak256("CloseRequest(address signer,uint64 orderId,uint256 nonce,uint256 deadline)");

    address private immutable _self;

    modifier onOrderBook() {
        _checkOnOrderBook();
        _;
    }

    constructor(IEscrow escrow_, IOrderBook.Parameters memory given) MarketState(escrow_, given) {
        _self = address(this);
    }

    /// @dev What neither the order book nor this answers.
    fallback() external {
        revert IOrderBook.NoSuchFunction(msg.sig);
    }

    // ------------------------------------------------------ account's owner and spenders

    /// @inheritdoc ILeases
    function closeLease(uint64 orderId, OrderState reason, LeaseResources calldata resources)
        external
        override
        onOrderBook
    {
        _closeFor(orderId, reason, resources, msg.sender);
    }

    /// @inheritdoc ILeases
    function extendLease(uint64 orderId, uint32 added) external override onOrderBook {
        if (added == 0) revert ExtensionIsZero(orderId);
        uint256 word = _liveWord(orderId);
        uint256 duration = word.duration() + added;
        if (duration > OrderWord.MAXIMUM_DURATION) {
            revert IOrderBook.DurationOutOfRange(duration > type(uint32).max ? type(uint32).max : uint32(duration));
        }
        _orders[orderId].word = word.withDuration(duration).withNoted(false);
        uint256 locked = _escrow.extendLease(orderId, word, duration, msg.sender);
        emit LeaseExtended(orderId, msg.sender, uint32(duration), locked);
    }

    /// @inheritdoc ILeases
    function proposeUpdate(uint64 orderId, OrderTerms calldata terms, uint40 expiry) external override onOrderBook {
        uint256 bidding = _bidding;
        _checkNotPaused(bidding);
        if (expiry <= block.timestamp) revert ExpiryPassed(expiry, block.timestamp);
        _liveWord(orderId);
        // An update ends the lease: who may not close it may not propose one.
        _checkUser(orderId, msg.sender);
        Terms.check(terms, _paramsVersionOf(bidding));
        uint256 bracket = _escrow.authoriseUpdate(
            OrderId.account(orderId), OrderId.token(orderId), msg.sender, terms.maximumRate, terms.duration
        );
        _checkBracket(terms.resources, bracket);
        bytes32 hash = Terms.hash(terms.resources, Terms.restHash(terms));
        hash = Terms.updateHash(hash, terms.maximumRate, terms.duration);
        _updates[orderId] = UpdateProposal(hash, expiry, _basisOf(orderId, msg.sender), msg.sender);
        emit UpdateProposed(orderId, msg.sender, expiry, terms);
    }

    /// @inheritdoc ILeases
    function rejectUpdate(uint64 orderId, bytes32 hash) external override onOrderBook {
        uint256 word = _leasedWord(orderId);
        bytes32 proposed = _proposalOf(orderId).hash;
        if (hash != proposed) revert OtherUpdateProposed(orderId, hash, proposed);
        if (_supplierOwner(word) != msg.sender) _checkUser(orderId, msg.sender);
        delete _updates[orderId];
        emit UpdateRejected(orderId, msg.sender);
    }

    /// @inheritdoc ILeases
    function rateLease(uint64 orderId, uint8 rating) external override onOrderBook {
        // Check
        if (rating == 0 || rating > HIGHEST_RATING) revert InvalidRating(rating, HIGHEST_RATING);
        uint256 word = _orders[orderId].word;
        // The workload of an updated lease goes on: its last lease is rated, so that updates make no ratings.
        if (word.state() < OrderState.ClosedByUser || word.state() == OrderState.ClosedUpdated) {
            revert IOrderBook.WrongState(orderId, word.state());
        }
        address owner = _escrow.ownerOf(OrderId.account(orderId));
        if (owner != msg.sender) revert IOrderBook.NotAccountOwner(orderId, msg.sender, owner);
        uint256 billed = word.duration();
        if (billed == 0 || word.settledFor() != billed) revert NotPaidInFull(orderId);
        if (word.noted()) revert AlreadyRated(orderId);
        uint256 fees = _escrow.feesOf(orderId, word, billed);
        if (fees == 0) revert NotPaidInFull(orderId);

        // Effect
        _orders[orderId].word = word.withNoted(true);
        uint32 provider = _providerOf(word);
        emit LeaseRated(orderId, provider, rating, fees);

        // Interaction
        IProviderRegistry(_registryOf(_bidding)).giveFeedback(provider, OrderId.token(orderId), rating, fees);
    }

    // -------------------------------------------------------------- providers

    /// @inheritdoc ILeases
    function acceptUpdate(uint64 orderId, LeaseResources calldata resources, OrderTerms calldata terms, uint96 rate)
        external
        override
        onOrderBook
        returns (uint64 updatedId)
    {
        uint256 bidding = _bidding;
        _checkNotPaused(bidding);
        uint256 word = _liveWord(orderId);
        if (_supplierOwner(word) != msg.sender) {
            revert IOrderBook.NotSupplierOwner(orderId, word.supplier(), msg.sender);
        }
        _checkActive(bidding, _providerOf(word));
        _checkResources(orderId, resources);
        bytes32 termsHash = _takeProposal(orderId, terms, rate);
        // What the old lease frees, money and capacity, is there for the new one.
        _close(orderId, word, OrderState.ClosedUpdated, _elapsed(word), resources.resources);
        updatedId = _openUpdated(orderId, word.supplier(), terms, termsHash, rate);
        uint64 workload = workloadOf(orderId);
        _workloads[updatedId] = workload;
        emit LeaseUpdated(orderId, updatedId, workload);
    }

    // ----------------------------------------------------------------- anyone

    /// @inheritdoc ILeases
    function announceLowFunds(uint64[] calldata orderIds) external override onOrderBook {
        for (uint256 index = 0; index < orderIds.length; ++index) {
            uint64 orderId = orderIds[index];
            uint256 word = _orders[orderId].word;
            if (word.state() != OrderState.Leased || word.noted()) continue;
            uint256 end = word.start() + word.duration();
            uint256 window = _smaller(_lowFundsWindow, word.duration() / LOW_FUNDS_PART);
            if (block.timestamp < end - window || block.timestamp >= end + _graceOf(word)) continue;
            _orders[orderId].word = word.withNoted(true);
            emit LeaseLowOnFunds(orderId, end);
        }
    }

    /// @inheritdoc ILeases
    function createOrderFor(OrderRequest calldata request, bytes calldata signature)
        external
        override
        onOrderBook
        returns (uint64 orderId)
    {
        bytes32 digest = keccak256(
            abi.encode(
                ORDER_REQUEST,
                request.signer,
                request.account,
                request.token,
                request.bidWindow,
                request.feeSchedule,
                Terms.typedHash(request.terms),
                request.nonce,
                request.deadline
            )
        );
        _checkSigned(request.signer, digest, request.nonce, request.deadline, signature);
        orderId = _openOrder(request.account, request.token, request.bidWindow, request.terms, request.signer);
        uint16 frozen = uint16(_orders[orderId].word.feeSchedule());
        if (frozen != request.feeSchedule) revert OtherFeeSchedule(request.feeSchedule, frozen);
    }

    /// @inheritdoc ILeases
    function closeFor(CloseRequest calldata request, LeaseResources calldata resources, bytes calldata signature)
        external
        override
        onOrderBook
    {
        bytes32 digest =
            keccak256(abi.encode(CLOSE_REQUEST, request.signer, request.orderId, request.nonce, request.deadline));
        _checkSigned(request.signer, digest, request.nonce, request.deadline, signature);
        if (_orders[request.orderId].word.state() == OrderState.Open) {
            _cancelOrder(request.orderId, request.signer);
        } else {
            _closeFor(request.orderId, OrderState.ClosedByUser, resources, request.signer);
        }
    }

    /// @inheritdoc ILeases
    function skipNonce() external override onOrderBook returns (uint256 skipped) {
        return _nonces[msg.sender]++;
    }

    // ------------------------------------------------------ disputes and slasher

    /// @inheritdoc ILeases
    function undoLease(uint64 orderId, LeaseResources calldata resources) external override onOrderBook {
        // Check
        if (msg.sender != _disputes) revert NotDisputes(msg.sender);
        uint256 word = _orders[orderId].word;
        OrderState state = word.state();
        bool live = state == OrderState.Leased;
        if (!live && (state < OrderState.ClosedByUser || state == OrderState.ClosedUndone)) {
            revert IOrderBook.WrongState(orderId, state);
        }
        uint256 holdEnd = word.start() + _challengeWindow;
        if (block.timestamp >= holdEnd) revert PayoutHoldOver(orderId, holdEnd, block.timestamp);
        _checkResources(orderId, resources);

        // Effect. Inside the hold nothing was settled, so nothing is billed.
        _orders[orderId].word = word.withState(OrderState.ClosedUndone).withDuration(0).withNoted(false);
        if (live) _release(word.supplier(), resources.resources, word.gpuEntry());
        emit LeaseClosed(orderId, OrderState.ClosedUndone, 0);
        _escrow.undoLease(orderId, word);
    }

    /// @inheritdoc ILeases
    function slashLease(uint64 orderId, uint32 billed, LeaseResources calldata resources)
        external
        override
        onOrderBook
    {
        if (msg.sender != _slasher) revert NotSlasher(msg.sender);
        uint256 word = _leasedWord(orderId);
        _checkResources(orderId, resources);
        uint256 most = _elapsed(word);
        if (billed < word.settledFor() || billed > most) {
            revert BilledOutOfRange(orderId, billed, word.settledFor(), most);
        }
        _close(orderId, word, OrderState.ClosedSlashed, billed, resources.resources);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc ILeases
    function updateProposal(uint64 orderId)
        external
        view
        override
        onOrderBook
        returns (UpdateProposal memory proposal)
    {
        proposal = _updates[orderId];
        if (_orders[orderId].word.state() != OrderState.Leased || !_stands(orderId, proposal)) delete proposal;
    }

    /// @inheritdoc ILeases
    function workloadOf(uint64 orderId) public view override onOrderBook returns (uint64 workload) {
        workload = _workloads[orderId];
        if (workload == 0) workload = orderId;
    }

    /// @inheritdoc ILeases
    function endOf(uint64 orderId) external view override onOrderBook returns (uint256 end, uint256 graceEnd) {
        uint256 word = _orders[orderId].word;
        if (word.state() != OrderState.Leased) return (0, 0);
        end = word.start() + word.duration();
        return (end, end + _graceOf(word));
    }

    /// @notice The domain that requests are signed in (ERC-5267).
    function eip712Domain()
        public
        view
        override
        onOrderBook
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        return super.eip712Domain();
    }

    // ---------------------------------------------------------- private: times

    function _graceOf(uint256 word) private view returns (uint256) {
        return _smaller(_graceWindow, word.duration() / GRACE_PART);
    }

    /// @dev Seconds of a live lease that have passed, up to its end.
    function _elapsed(uint256 word) private view returns (uint256) {
        return _smaller(block.timestamp - word.start(), word.duration());
    }

    function _smaller(uint256 left, uint256 right) private pure returns (uint256) {
        return left < right ? left : right;
    }

    // --------------------------------------------------------- private: leases

    function _leasedWord(uint64 orderId) private view returns (uint256 word) {
        word = _orders[orderId].word;
        if (word.state() != OrderState.Leased) revert IOrderBook.WrongState(orderId, word.state());
    }

    /// @dev Of a lease that can still be extended or updated.
    function _liveWord(uint64 orderId) private view returns (uint256 word) {
        word = _leasedWord(orderId);
        uint256 end = word.start() + word.duration() + _graceOf(word);
        if (block.timestamp >= end) revert LeaseOver(orderId, end, block.timestamp);
    }

    function _checkResources(uint64 orderId, LeaseResources calldata resources) private view {
        bytes32 given = Terms.hash(resources.resources, resources.restHash);
        bytes32 stored = _orders[orderId].termsHash;
        if (given != stored) revert WrongResources(orderId, given, stored);
    }

    /// @dev A close by `caller`, for a reason that is its to give.
    function _closeFor(uint64 orderId, OrderState reason, LeaseResources calldata resources, address caller) private {
        uint256 word = _leasedWord(orderId);
        _checkResources(orderId, resources);
        if (reason < OrderState.ClosedByUser || reason > OrderState.ClosedCannotStart) {
            revert InvalidCloseReason(orderId, reason);
        }
        uint256 end = word.start() + word.duration() + _graceOf(word);
        if (block.timestamp >= end) {
            // Over by itself, whoever says so and why.
            reason = OrderState.ClosedAtEnd;
        } else if (reason == OrderState.ClosedAtEnd) {
            revert LeaseNotOver(orderId, end, block.timestamp);
        } else if (reason == OrderState.ClosedByUser) {
            _checkUser(orderId, caller);
        } else if (_supplierOwner(word) != caller) {
            revert IOrderBook.NotSupplierOwner(orderId, word.supplier(), caller);
        }
        _close(orderId, word, reason, _elapsed(word), resources.resources);
    }

    /// @dev Ends a live lease after `billed` seconds. Inside the payout hold what accrued is kept for later.
    function _close(uint64 orderId, uint256 word, OrderState reason, uint256 billed, uint256 resources) private {
        bool held = block.timestamp < word.start() + _challengeWindow;
        uint256 closed = word.withState(reason).withDuration(billed).withNoted(false);
        _orders[orderId].word = held ? closed : closed.withSettledFor(billed);
        _release(word.supplier(), resources, word.gpuEntry());
        _creditClosed(orderId, word, billed, held);
        emit LeaseClosed(orderId, reason, uint32(billed));
    }

    function _creditClosed(uint64 orderId, uint256 word, uint256 billed, bool held) private {
        uint256 payee = _suppliers[word.supplier()].payee;
        _suppliers[word.supplier()].payee = payee | PayeeWord.credit(orderId);
        address gatewayPayee = _gatewayPayee(orderId, payee.gateway());
        (uint256 amount, uint256 gatewayAmount) =
            _escrow.closeLease(orderId, word, billed, held, payee.owner(), gatewayPayee);
        if (held || billed == word.settledFor()) return;
        _emitSettled(orderId, word.supplier(), billed, amount, payee.gateway(), gatewayAmount);
    }

    function _supplierOwner(uint256 word) private view returns (address) {
        return _suppliers[word.supplier()].payee.owner();
    }

    function _release(uint32 supplier, uint256 resources, uint256 gpuEntry) private {
        SupplierRecord storage record = _suppliers[supplier];
        // A decrease that waits for this is taken by whoever reads the word next.
        record.capacity = record.capacity.release(resources, gpuEntry);
    }

    /// @dev Whose score card stands for the lease: the supplier's, or its gateway's.
    function _providerOf(uint256 word) private view returns (uint32 provider) {
        provider = _suppliers[word.supplier()].payee.gateway();
        if (provider == 0) provider = word.supplier();
    }

    /// @dev A lease that begins has stake behind it, however it begins.
    function _checkActive(uint256 bidding, uint32 provider) private view {
        uint256 card = IProviderRegistry(_registryOf(bidding)).scoreCard(provider);
        if (!ScoreCardWord.isActive(card)) revert IOrderBook.SupplierInactive(provider);
    }

    // -------------------------------------------------------- private: updates

    /// @dev The proposal that stands for a lease.
    function _proposalOf(uint64 orderId) private view returns (UpdateProposal memory proposal) {
        proposal = _updates[orderId];
        if (!_stands(orderId, proposal)) revert NoUpdateProposed(orderId);
    }

    /// @dev What was proposed falls when the right to propose it ends or is set anew, and with the fees that it was proposed at.
    /// What nobody proposed rests on nothing.
    function _stands(uint64 orderId, UpdateProposal memory proposal) private view returns (bool) {
        return proposal.basis != 0 && proposal.basis == _basisOf(orderId, proposal.by);
    }

    function _basisOf(uint64 orderId, address by) private view returns (uint56) {
        return _escrow.basisOf(OrderId.account(orderId), OrderId.token(orderId), by);
    }

    /// @dev What the user agreed to, once. Terms that hash to the proposal have passed {Terms-check} then.
    function _takeProposal(uint64 orderId, OrderTerms calldata terms, uint96 rate) private returns (bytes32 termsHash) {
        UpdateProposal memory proposal = _proposalOf(orderId);
        if (block.timestamp >= proposal.expiry) revert UpdateExpired(orderId, proposal.expiry, block.timestamp);
        termsHash = Terms.hash(terms.resources, Terms.restHash(terms));
        bytes32 given = Terms.updateHash(termsHash, terms.maximumRate, terms.duration);
        if (given != proposal.hash) revert OtherUpdateProposed(orderId, given, proposal.hash);
        if (rate == 0) revert IOrderBook.RateIsZero(orderId);
        if (rate > terms.maximumRate) revert IOrderBook.RateAboveMaximum(orderId, rate, terms.maximumRate);
        delete _updates[orderId];
    }

    /// @dev Opens the lease that replaces `orderId` under the account's next id, without an order or a match before it.
    function _openUpdated(uint64 orderId, uint32 supplier, OrderTerms calldata terms, bytes32 termsHash, uint96 rate)
        private
        returns (uint64 updatedId)
    {
        (uint256 gpuEntry, uint256 class) = _reserveAny(orderId, supplier, terms.resources);
        (uint256 nonce, uint256 schedule) =
            _escrow.lockUpdate(OrderId.account(orderId), OrderId.token(orderId), rate, terms.duration);
        updatedId = OrderId.pack(OrderId.account(orderId), OrderId.token(orderId), nonce);
        _orders[updatedId].termsHash = termsHash;
        _orders[updatedId].word = OrderWord.open(rate, terms.duration, block.number, schedule)
            .leased(rate, block.timestamp, supplier, gpuEntry, class);
        emit IOrderBook.LeaseCreated(updatedId, supplier, rate, uint32(block.timestamp), uint8(gpuEntry));
    }

    /// @dev The first GPU entry that has what is asked for.
    function _reserveAny(uint64 orderId, uint32 supplier, uint256 resources)
        private
        returns (uint256 gpuEntry, uint256 class)
    {
        uint256 entries = ResourceWord.gpuCount(resources) == 0 ? 1 : 4;
        for (; gpuEntry < entries; ++gpuEntry) {
            bool fits;
            (fits, class) = _reserve(supplier, resources, gpuEntry);
            if (fits) return (gpuEntry, class);
        }
        revert NoCapacity(orderId, supplier);
    }

    // ----------------------------------------------------- private: signatures

    /// @dev Uses the nonce up: what the signer's own code answers cannot bring the request in a second time.
    function _checkSigned(address signer, bytes32 structHash, uint256 nonce, uint256 deadline, bytes calldata signature)
        private
    {
        if (block.timestamp > deadline) revert SignatureExpired(deadline, block.timestamp);
        uint256 expected = _nonces[signer]++;
        if (nonce != expected) revert WrongNonce(signer, nonce, expected);
        if (!SignatureChecker.isValidSignatureNowCalldata(signer, _hashTypedData(structHash), signature)) {
            revert InvalidSignature(signer);
        }
    }

    function _domainNameAndVersion() internal pure override returns (string memory name, string memory version) {
        return ("Spheron Market", "1");
    }

    function _checkOnOrderBook() private view {
        if (address(this) == _self) revert IOrderBook.NoSuchFunction(msg.sig);
    }
}
