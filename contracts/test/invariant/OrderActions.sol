// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {BidRequest, CloseRequest, OrderRequest, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {SignedRequests} from "../market/SignedRequests.sol";
import {AccountActions} from "./AccountActions.sol";
import {TermsHash} from "../market/TermsHash.sol";

/// @notice Orders from their creation to the match: users, spenders and relayers create, providers bid, the quorum answers, anyone
/// expires.
abstract contract OrderActions is AccountActions {
    uint256 private constant BIDS_ON_AN_ORDER = 512;

    // ------------------------------------------------------------------- create

    function createOrder(uint256 seed, uint256 rate, uint256 shape) public {
        ++steps;
        uint32 account = _pickAccount(seed);
        uint8 token = _pickToken(seed);
        uint256 who = _draw(seed, 20, 10);
        address caller = _ownerOf[account];
        if (who < 4) caller = _someSpender(account, token, seed);
        if (who == 9) caller = _stranger;
        _create(account, token, caller, _affordable(account, token, seed, rate), shape, seed);
    }

    /// @dev Lengths of all sizes, and a rate that the account can mostly pay. Rate at 32, duration below.
    function _affordable(uint32 account, uint8 token, uint256 seed, uint256 rate) internal view returns (uint256) {
        uint256 kind = _draw(seed, 21, 8);
        uint256 duration = 600 + _draw(seed, 22, 10_000);
        if (kind == 0) duration = 1 + _draw(seed, 23, 600);
        if (kind == 1) duration = 1 + _draw(seed, 24, 400 days);
        uint256 highest = _purses[_accountKey(account, token)].unlocked * RATE_PERIOD / (duration * 3) + 1;
        // Now and then more than there is.
        if (_draw(seed, 25, 10) == 0) highest *= 10;
        if (highest > type(uint96).max >> 13) highest = type(uint96).max >> 13;
        // A low rate now and then, where all the rounding is.
        if (_draw(seed, 26, 4) == 0 && highest > 3 * RATE_PERIOD) highest = 3 * RATE_PERIOD;
        return (bound(rate, 1, highest) << 32) | duration;
    }

    function _create(uint32 account, uint8 token, address caller, uint256 rateAndDuration, uint256 shape, uint256 seed)
        internal
        returns (bool created)
    {
        if (_entries.length >= MOST_ENTRIES) return false;
        OrderTerms memory terms = _terms(shape, uint96(rateAndDuration >> 32), uint32(rateAndDuration));
        uint256 amount =
            _worstCase(terms.maximumRate, terms.duration, _currentSchedule[token]) + _matchFee(_currentSchedule[token]);
        bool fits = _withinBracket(
            terms.resources, escrow.bracketOf(account, token), (terms.resources >> 62) & 0xfff == 0 ? 0 : book.topGpus()
        );
        bool allowed = _enabled[token] && !_paused && fits && _maySpend(account, token, caller, amount)
            && amount <= _purses[_accountKey(account, token)].unlocked;
        uint64 orderId;
        (created, orderId) = _ask(account, token, caller, uint16(seed % 4), terms, seed);
        if (created) {
            if (!_enabled[token] || _paused) _break(12, "an order in a delisted token, or in a paused market");
            _require(allowed, 4, "an order without the money, the right or the bracket");
            _consume(account, token, caller, amount);
            _enter(orderId, account, token, amount, terms);
            _reach(caller == _ownerOf[account] ? Reached.Order : Reached.OrderBySpender);
        } else {
            _require(!allowed, 12, "a good order was refused");
            if (!fits) _reach(Reached.OrderAboveBracket);
            if (!_enabled[token] || _paused) _reach(Reached.OrderStopped);
        }
        _seePurse(account, token);
    }

    /// @dev By the caller itself, or brought in with its signature by a stranger.
    function _ask(uint32 account, uint8 token, address caller, uint16 bidWindow, OrderTerms memory terms, uint256 seed)
        private
        returns (bool created, uint64 orderId)
    {
        if (_keys[caller] == 0 || _draw(seed, 27, 3) != 0) {
            vm.prank(caller);
            try book.createOrder(account, token, bidWindow, terms) returns (uint64 id) {
                return (true, id);
            } catch {
                return (false, 0);
            }
        }
        OrderRequest memory request = OrderRequest(
            caller,
            account,
            token,
            bidWindow,
            _currentSchedule[token],
            terms,
            book.nonces(caller),
            block.timestamp + _draw(seed, 28, 1 days)
        );
        bytes memory signature = SignedRequests.sign(vm, _keys[caller], request, address(book));
        if (_draw(seed, 36, 6) == 0) {
            // Thought better of it, and signed once more.
            _skipNonce(caller);
            vm.prank(_stranger);
            try leases.createOrderFor(request, signature) {
                _break(9, "a signature brought an order after its nonce was skipped");
            } catch {}
            request.nonce = book.nonces(caller);
            signature = SignedRequests.sign(vm, _keys[caller], request, address(book));
        }
        vm.prank(_stranger);
        try leases.createOrderFor(request, signature) returns (uint64 id) {
            (created, orderId) = (true, id);
            _reach(Reached.OrderBySignature);
            vm.prank(_stranger);
            try leases.createOrderFor(request, signature) {
                _break(9, "a signature brought two orders");
            } catch {}
        } catch {}
    }

    /// @dev Whoever signs takes back what it has signed and nobody has brought in.
    function skipNonce(uint256 seed) public {
        ++steps;
        _skipNonce(_draw(seed, 37, 2) == 0 ? _pickSpender(seed) : _ownerOf[_pickAccount(seed)]);
    }

    function _skipNonce(address signer) private {
        uint256 nonce = book.nonces(signer);
        vm.prank(signer);
        _require(leases.skipNonce() == nonce, 9, "another nonce was skipped");
        _require(book.nonces(signer) == nonce + 1, 9, "a nonce was not skipped, or more than one");
        _reach(Reached.NonceSkipped);
    }

    function _enter(uint64 orderId, uint32 account, uint8 token, uint256 amount, OrderTerms memory terms) private {
        Entry storage entry = _newEntry(orderId, account, token, terms);
        entry.state = OrderState.Open;
        (entry.schedule, entry.rate) = (_currentSchedule[token], terms.maximumRate);
        (uint256 word,,) = book.orderRecord(orderId);
        entry.closeBlock = uint32(word >> 174);
        _lock(entry, amount);
        _see(entry);
    }

    /// @dev Ids follow from the account's nonce, which only orders raise.
    function _newEntry(uint64 orderId, uint32 account, uint8 token, OrderTerms memory terms)
        internal
        returns (Entry storage entry)
    {
        uint256 nonce = ++_purses[_accountKey(account, token)].nonce;
        _require(
            orderId == (uint256(account) << 32) | (uint256(token) << 24) | nonce, 4, "an order under another's number"
        );
        _require(_entryOf[orderId] == 0, 9, "an order's number was used twice");
        entry = _entries.push();
        _entryOf[orderId] = _entries.length;
        (entry.orderId, entry.account, entry.token) = (orderId, account, token);
        (entry.resources, entry.restHash) = (terms.resources, TermsHash.rest(terms));
        (entry.maximumRate, entry.duration) = (terms.maximumRate, terms.duration);
    }

    function _matchFee(uint16 schedule) internal view returns (uint256) {
        return _schedules[schedule].matchFee;
    }

    // ------------------------------------------------------------ cancel, expire

    /// @dev An open order, a new one if there is none.
    function _someOpen(uint256 seed) private returns (bool found, uint256 index) {
        (found, index) = _pickIn(seed, OrderState.Open);
        if (found) return (found, index);
        (uint32 account, uint8 token) = (_pickAccount(seed), _pickToken(seed));
        found = _create(account, token, _ownerOf[account], _affordable(account, token, seed, seed >> 1), seed, seed);
        if (found) index = _entries.length - 1;
    }

    function cancel(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _someOpen(seed);
        if (!found) return;
        Entry storage entry = _entries[index];
        address caller = _ownerOf[entry.account];
        uint256 who = _draw(seed, 30, 6);
        if (who < 2) caller = _someSpender(entry.account, entry.token, seed);
        if (who == 5) caller = _stranger;
        bool free = block.number < entry.closeBlock || block.number > entry.closeBlock + _responseWindow;
        bool allowed = free && _mayClose(entry.account, entry.token, caller);
        bool bySignature = _keys[caller] != 0 && _draw(seed, 34, 3) == 0;
        if (bySignature ? _tryCloseFor(entry, caller) : _tryCancel(entry, caller)) {
            _require(allowed, 9, "an order was cancelled by a stranger, or while its answer is due");
            _dropOrder(entry, OrderState.Cancelled);
            _reach(bySignature ? Reached.CancelledBySignature : Reached.Cancelled);
        } else {
            _require(!allowed, 11, "an order could not be cancelled");
        }
    }

    function _tryCancel(Entry storage entry, address caller) private returns (bool) {
        vm.prank(caller);
        try book.cancelOrder(entry.orderId) {
            return true;
        } catch {
            return false;
        }
    }

    /// @dev What a signer asks for and a stranger brings in: the end of an order or a lease.
    function _tryCloseFor(Entry storage entry, address signer) internal returns (bool) {
        CloseRequest memory request =
            CloseRequest(signer, entry.orderId, book.nonces(signer), block.timestamp + 1 hours);
        bytes memory signature = SignedRequests.sign(vm, _keys[signer], request, address(book));
        vm.prank(_stranger);
        try leases.closeFor(request, _resourcesOf(entry), signature) {
            return true;
        } catch {
            return false;
        }
    }

    function _dropOrder(Entry storage entry, OrderState state) internal {
        entry.state = state;
        _refund(entry, _left(entry));
        _see(entry);
        _seePurse(entry.account, entry.token);
    }

    function expire(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _someOpen(seed);
        if (!found) return;
        Entry storage entry = _entries[index];
        // Half the time when it may be done at the earliest.
        if (_draw(seed, 31, 2) == 0 && block.number < _expirableAt(entry)) vm.roll(_expirableAt(entry));
        _expireOne(entry);
    }

    function _expirableAt(Entry storage entry) internal view returns (uint256) {
        return entry.bids == 0 ? entry.closeBlock : entry.closeBlock + _responseWindow + _matchWindow + 1;
    }

    function _expireOne(Entry storage entry) internal {
        uint64[] memory ids = new uint64[](1);
        ids[0] = entry.orderId;
        bool due = block.number >= _expirableAt(entry);
        vm.prank(_stranger);
        try book.expireOrders(ids) {
            _require(due, 9, "an order expired before its answer was due");
            _dropOrder(entry, OrderState.Expired);
            _reach(Reached.Expired);
        } catch {
            _require(!due, 11, "an order could not expire");
        }
    }

    // -------------------------------------------------------------------- bids

    function bid(uint256 seed, uint256 rate) public {
        ++steps;
        (bool found, uint256 index) = _pickIn(seed, OrderState.Open);
        if (!found) return;
        Supplier storage bidder = _suppliers[_draw(seed, 32, _suppliers.length)];
        _bid(_entries[index], bidder, rate, _draw(seed, 38, 2) == 0);
    }

    /// @dev Alone, which fails if it cannot be, or in a batch, which passes over it.
    function _bid(Entry storage entry, Supplier storage bidder, uint256 rate, bool alone) internal {
        uint32 fizz = bidder.gateway == 0 ? 0 : bidder.id;
        BidRequest[] memory bids = new BidRequest[](1);
        bids[0] = BidRequest(entry.orderId, fizz, uint96(bound(rate, 1, entry.maximumRate)));
        bytes memory call = abi.encodeCall(IOrderBook.placeBids, (bids));
        if (alone) call = abi.encodeCall(IOrderBook.placeBid, (entry.orderId, fizz, bids[0].rate));
        vm.prank(bidder.gateway == 0 ? bidder.owner : _supplierOwner(bidder.gateway));
        (bool done,) = address(book).call(call);
        (, uint16 count) = book.bidsDigest(entry.orderId);
        if (count == entry.bids) {
            _require(!done || !alone, 9, "a bid that nobody sees");
            return;
        }
        _require(done && !_paused && count == entry.bids + 1, 12, "a bid in a paused market");
        _require(count <= BIDS_ON_AN_ORDER && block.number < entry.closeBlock, 9, "a bid after the close block");
        entry.bids = count;
        _reach(alone ? Reached.BidAlone : Reached.Bid);
    }

    // ------------------------------------------------------------------ answers

    /// @dev One close block at a time, all its orders, as the quorum answers.
    function answer(uint256 seed) public {
        ++steps;
        (bool found, uint256 any) = _someOpen(seed);
        if (!found) return;
        uint32 closeBlock = _entries[any].closeBlock;
        if (block.number <= closeBlock) vm.roll(uint256(closeBlock) + 1);
        if (block.number > closeBlock + _responseWindow + _matchWindow) return;
        _open(closeBlock, _openIn(closeBlock), seed, false);
    }

    /// @dev One order that nobody answered, as the rule run on chain does.
    function matchOnChain(uint256 seed) public {
        ++steps;
        (bool found, uint256 index) = _someOpen(seed);
        if (!found) return;
        uint32 closeBlock = _entries[index].closeBlock;
        uint256 first = uint256(closeBlock) + _responseWindow + 1;
        if (block.number < first && _draw(seed, 33, 2) == 0) vm.roll(first);
        if (block.number < first || block.number >= first + _matchWindow) return;
        uint256[] memory only = new uint256[](1);
        only[0] = index;
        if (_open(closeBlock, only, seed, false)) _reach(Reached.MatchedOnChain);
    }

    /// @dev From order to lease in one step, so that most of a campaign is about leases.
    function lease(uint256 seed, uint256 rate, uint256 shape) public {
        ++steps;
        uint32 account = _pickAccount(seed);
        uint8 token = _pickToken(seed);
        address owner = _ownerOf[account];
        if (!_create(account, token, owner, _affordable(account, token, seed, rate), shape, seed)) return;
        Entry storage entry = _entries[_entries.length - 1];
        _bid(entry, _suppliers[_draw(seed, 35, _suppliers.length)], rate, _draw(seed, 39, 2) == 0);
        vm.roll(uint256(entry.closeBlock) + 1);
        uint256[] memory only = new uint256[](1);
        only[0] = _entries.length - 1;
        _open(entry.closeBlock, only, seed, true);
    }

    /// @dev Answers these entries of one close block: none ranked, one or two suppliers, now and then words that are not the order's.
    function _open(uint32 closeBlock, uint256[] memory indices, uint256 seed, bool surely) private returns (bool) {
        uint256[] memory words = new uint256[](indices.length * 5);
        uint256 count = 0;
        for (uint256 position = 0; position < indices.length; ++position) {
            Entry storage entry = _entries[indices[position]];
            uint256 ranks = _ranksOf(seed, position, surely);
            words[count++] = (uint256(entry.orderId) << 8) | ranks;
            if (ranks == 0) continue;
            words[count++] = entry.resources;
            words[count++] = uint256(entry.restHash) ^ (_isAltered(seed, position, surely) ? 1 : 0);
            for (uint256 rank = 0; rank < ranks; ++rank) {
                words[count++] = _rankWord(seed, position, rank, entry.maximumRate);
            }
        }
        assembly ("memory-safe") {
            mstore(words, count)
        }
        vm.prank(_roles.taskManager);
        try book.openLeases(closeBlock, words, _roles.responder) {
            _require(!_paused, 12, "an answer in a paused market");
            for (uint256 position = 0; position < indices.length; ++position) {
                _absorb(_entries[indices[position]], seed, position, surely);
            }
            return true;
        } catch {
            _require(_paused, 11, "an answer was refused");
            return false;
        }
    }

    function _ranksOf(uint256 seed, uint256 position, bool surely) private pure returns (uint256) {
        return surely ? 2 : _draw(seed, 100 + position, 3);
    }

    function _isAltered(uint256 seed, uint256 position, bool surely) private pure returns (bool) {
        return !surely && _draw(seed, 200 + position, 10) == 0;
    }

    function _rankWord(uint256 seed, uint256 position, uint256 rank, uint256 maximumRate)
        private
        view
        returns (uint256)
    {
        Supplier storage supplier =
            _suppliers[(_draw(seed, 300 + position, _suppliers.length) + rank) % _suppliers.length];
        // At the maximum half the time; a rate above it or none is passed over.
        uint256 rate = maximumRate;
        uint256 kind = _draw(seed, 400 + position, 8);
        if (kind < 4) rate = 1 + _draw(seed, 500 + position, maximumRate);
        if (kind == 7 && rank == 0) rate = maximumRate + 1;
        uint256 ids = supplier.gateway == 0
            ? uint256(supplier.id) << 118
            : (uint256(supplier.gateway) << 118) | (uint256(supplier.id) << 86);
        return ids | (rate << 2) | _draw(seed, 600 + position, 2);
    }

    /// @dev What an answer made of an order, which is the contract's to choose only among what was ranked.
    function _absorb(Entry storage entry, uint256 seed, uint256 position, bool surely) private {
        uint256 ranks = _ranksOf(seed, position, surely);
        bool altered = ranks != 0 && _isAltered(seed, position, surely);
        (uint256 current,,) = book.orderRecord(entry.orderId);
        Word memory word = _unpack(current);
        if (word.state == OrderState.Leased) {
            _require(!altered, 9, "a lease with other resources than ordered");
            _require(_isRanked(entry, word, seed, position, ranks), 9, "a lease that nobody was ranked for");
            _begin(entry, word);
        } else if (word.state == OrderState.Expired) {
            _require(ranks == 0 || (entry.requeued && !altered), 9, "an order expired that was not answered so");
            _dropOrder(entry, OrderState.Expired);
            _reach(Reached.Expired);
        } else if (word.closeBlock != entry.closeBlock) {
            _require(ranks != 0 && !altered && !entry.requeued, 9, "an order was requeued that was not answered so");
            (entry.requeued, entry.closeBlock, entry.bids) = (true, uint32(word.closeBlock), 0);
            _see(entry);
            _reach(Reached.Requeued);
        } else {
            _require(altered, 9, "an answer was ignored");
        }
    }

    function _isRanked(Entry storage entry, Word memory word, uint256 seed, uint256 position, uint256 ranks)
        private
        view
        returns (bool)
    {
        for (uint256 rank = 0; rank < ranks; ++rank) {
            uint256 given = _rankWord(seed, position, rank, entry.maximumRate);
            uint256 supplier = uint32(given >> 86) != 0 ? uint32(given >> 86) : uint32(given >> 118);
            bool same = word.supplier == supplier && word.rate == given >> 2 & ((1 << 84) - 1);
            if (same && word.gpuEntry == given & 3 && word.rate <= entry.maximumRate) return true;
        }
        return false;
    }

    /// @dev The match: the lock shrinks to the rate taken, the responder gets its fee, the class of the supplier is frozen.
    function _begin(Entry storage entry, Word memory word) private {
        entry.state = OrderState.Leased;
        (entry.rate, entry.supplier, entry.start) = (uint96(word.rate), uint32(word.supplier), uint32(block.timestamp));
        _require(word.start == block.timestamp, 8, "a lease does not begin with its match");
        Supplier storage supplier = _suppliers[_supplierAt[entry.supplier] - 1];
        uint256 fee = _matchFee(entry.schedule);
        if (supplier.rebated) entry.schedule |= 1;
        _credit(entry, _roles.responder, fee);
        entry.responderGot = fee;
        _refund(entry, _left(entry) - _worstCase(entry.rate, entry.duration, entry.schedule));
        _see(entry);
        _seePurse(entry.account, entry.token);
        _reach(Reached.Leased);
        if (supplier.gateway != 0) _reach(Reached.LeasedBehindGateway);
        if (supplier.rebated) _reach(Reached.LeasedRebated);
    }

    /// @dev Open entries of a close block, ascending by id.
    function _openIn(uint32 closeBlock) private view returns (uint256[] memory indices) {
        indices = new uint256[](_entries.length);
        uint256 count = 0;
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            if (entry.state != OrderState.Open || entry.closeBlock != closeBlock) continue;
            uint256 position = count++;
            for (; position > 0 && _entries[indices[position - 1]].orderId > entry.orderId; --position) {
                indices[position] = indices[position - 1];
            }
            indices[position] = index;
        }
        assembly ("memory-safe") {
            mstore(indices, count)
        }
    }
}
