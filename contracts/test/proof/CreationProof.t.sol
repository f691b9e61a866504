// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Brackets} from "../../src/market/Brackets.sol";
import {Fees} from "../../src/market/Fees.sol";
import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {AccountWord, OrderId, OrderWord} from "../../src/market/Resources.sol";
import {OrderRequest, OrderTerms} from "../../src/Types.sol";
import {SignedRequests} from "../market/SignedRequests.sol";
import {TermsHash} from "../market/TermsHash.sol";
import {Test} from "../Test.sol";
import {OpenEscrow} from "./EscrowProof.t.sol";
import {OpenOrderBook} from "./StatesProof.t.sol";

/// @dev Escrow and order book know each other from their construction, and halmos gives out addresses of its own: to the order book
/// this is the escrow, to the escrow the order book. It hands on what it is asked.
contract Relay {
    address private _escrow;

    function setEscrow(address escrow) external {
        _escrow = escrow;
    }

    /// @dev Whoever asks is it.
    function orderBook() external view returns (address) {
        return msg.sender;
    }

    fallback() external {
        address escrow = _escrow;
        assembly {
            calldatacopy(0, 0, calldatasize())
            let success := call(gas(), escrow, 0, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if success { return(0, returndatasize()) }
            revert(0, returndatasize())
        }
    }
}

/// @notice The two calls that create an order, on the order book's and the escrow's own code together, from every word that account,
/// token, right and nonce can have, at every time and block of 32 bits.
/// @dev Held concrete, because they are no money and every branch costs: the resources, the requirements, a bracket that allows
/// them, the bid window, and the lengths of the two lists of suppliers, of which each has one. A signer has no code, so that its
/// signature is recovered. What a power of ten is, for the match fee, the solver does not ask: the proofs hold of any number.
abstract contract CreationCalls is Test {
    uint16 internal constant BID_WINDOW = 7;
    uint256 private constant RESOURCES = 1 | (1 << 22) | (1 << 42);
    uint256 private constant REQUIREMENTS = (0xfe << 8) | (1 << 88);

    OpenEscrow internal _escrow;
    OpenOrderBook internal _book;

    /// @dev What there is before the call. Of the rights there is one, which anybody may hold, for any account, token and epoch;
    /// beside the account there is another one, or another token of it, and another order.
    struct Before {
        address owner;
        uint32 account;
        uint8 token;
        uint32 epoch;
        uint256 listed;
        uint256 money;
        uint256 holder;
        uint256 right;
        uint40 other;
        uint256 otherMoney;
        uint64 otherOrder;
        uint256 otherWord;
        bytes32 otherTerms;
        uint32 time;
        uint32 blockNumber;
    }

    struct Asked {
        uint96 maximumRate;
        uint32 duration;
        uint32 wanted;
        uint32 excluded;
        uint256 regions;
        bytes32 manifestHash;
    }

    struct Signed {
        address signer;
        uint16 feeSchedule;
        uint256 nonce;
        uint256 deadline;
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    function setUp() public {
        Relay relay = new Relay();
        _escrow = new OpenEscrow(address(relay), address(0x30));
        relay.setEscrow(address(_escrow));
        _book = new OpenOrderBook(
            IEscrow(address(relay)),
            IOrderBook.Parameters({
                bidWindow: 2,
                maximumBidWindow: 20,
                responseWindow: 50,
                matchWindow: 30,
                challengeWindow: 600,
                graceWindow: 120,
                lowFundsWindow: 300,
                bidLimit: 512,
                paramsVersion: 1
            })
        );
    }

    function check_createOrderByOwner(Before calldata before, Asked calldata asked) external {
        _create(before, asked, before.owner);
    }

    function check_createOrderBySpender(Before calldata before, Asked calldata asked, address spender) external {
        vm.assume(spender != before.owner);
        _create(before, asked, spender);
    }

    function check_createOrderForOwner(
        Before calldata before,
        Asked calldata asked,
        Signed calldata signed,
        uint256 nonce
    ) external {
        vm.assume(signed.signer == before.owner);
        _createFor(before, asked, signed, nonce);
    }

    function check_createOrderForSpender(
        Before calldata before,
        Asked calldata asked,
        Signed calldata signed,
        uint256 nonce
    ) external {
        vm.assume(signed.signer != before.owner);
        _createFor(before, asked, signed, nonce);
    }

    // ---------------------------------------------------------------- private

    function _create(Before calldata before, Asked calldata asked, address caller) private {
        _set(before);
        vm.prank(caller);
        (bool success, bytes memory result) = address(_book)
            .call(abi.encodeCall(IOrderBook.createOrder, (before.account, before.token, BID_WINDOW, _terms(asked))));
        _judge(before, asked, caller, success, result);
    }

    function _createFor(Before calldata before, Asked calldata asked, Signed calldata signed, uint256 nonce) private {
        vm.assume(signed.signer.code.length == 0);
        _set(before);
        _book.setNonce(signed.signer, nonce);
        OrderRequest memory request = _request(before, asked, signed);
        (bool success, bytes memory result) = address(_book)
            .call(abi.encodeCall(ILeases.createOrderFor, (request, abi.encodePacked(signed.r, signed.s, signed.v))));
        _judge(before, asked, signed.signer, success, result);
        if (success) _judgeSigned(before, request, signed, nonce);
    }

    function _set(Before calldata before) private {
        vm.assume(before.owner != address(0));
        // What every deposit keeps to.
        vm.assume(AccountWord.unlocked(before.money) + AccountWord.locked(before.money) <= AccountWord.MAXIMUM_AMOUNT);
        vm.assume(before.other != (uint256(before.account) << 8 | before.token));
        // An id that was given out: it has an earlier nonce, or is another account's or token's.
        vm.assume(before.otherOrder != _id(before));
        vm.assume(AccountWord.bracket(before.money) >= Brackets.HIGHEST);
        vm.assume(before.blockNumber <= type(uint32).max - BID_WINDOW);
        _escrow.give(before.owner, before.account);
        _escrow.setEpoch(before.account, before.epoch);
        _escrow.setToken(before.token, before.listed);
        _escrow.setAccount(before.account, before.token, before.money);
        _escrow.setAccount(before.other, before.otherMoney);
        _escrow.setRight(before.holder, before.right);
        _book.setOrder(before.otherOrder, before.otherWord, before.otherTerms);
        vm.warp(before.time);
        vm.roll(before.blockNumber);
    }

    function _judge(Before calldata before, Asked calldata asked, address by, bool success, bytes memory result)
        internal
        virtual;

    function _judgeSigned(Before calldata before, OrderRequest memory request, Signed calldata signed, uint256 nonce)
        internal
        virtual;

    /// @dev Of the order that the call creates.
    function _id(Before calldata before) internal pure returns (uint64) {
        return OrderId.pack(before.account, before.token, AccountWord.nonce(before.money) + 1);
    }

    function _request(Before calldata before, Asked calldata asked, Signed calldata signed)
        private
        pure
        returns (OrderRequest memory)
    {
        return OrderRequest({
            signer: signed.signer,
            account: before.account,
            token: before.token,
            bidWindow: BID_WINDOW,
            feeSchedule: signed.feeSchedule,
            terms: _terms(asked),
            nonce: signed.nonce,
            deadline: signed.deadline
        });
    }

    function _terms(Asked calldata asked) internal pure returns (OrderTerms memory terms) {
        (terms.resources, terms.requirements) = (RESOURCES, REQUIREMENTS);
        terms.regions = asked.regions;
        terms.manifestHash = asked.manifestHash;
        terms.maximumRate = asked.maximumRate;
        terms.duration = asked.duration;
        (terms.wantedSuppliers, terms.excludedSuppliers) = (new uint32[](1), new uint32[](1));
        (terms.wantedSuppliers[0], terms.excludedSuppliers[0]) = (asked.wanted, asked.excluded);
    }
}

/// @notice Proofs by halmos of what an order's creation does with money, rights and the order's words.
contract CreationProof is CreationCalls {
    using AccountWord for uint256;

    function _judge(Before calldata before, Asked calldata asked, address by, bool success, bytes memory result)
        internal
        view
        override
    {
        // What a call that failed did is undone by the machine.
        if (!success) return;
        uint256 lock = _escrow.orderLock(asked.maximumRate, asked.duration, before.listed);
        _judgeMoney(before, lock);
        _judgeRight(before, by, lock);
        assert(abi.decode(result, (uint256)) == _id(before));
        _judgeOrder(before, asked, _id(before));
    }

    /// @dev What the order locks was unlocked before, and the nonce has room: nothing of the sum carries from field to field, so the
    /// word says that the lock moved from unlocked to locked, that the nonce went up by one, and that the bracket is what it was.
    function _judgeMoney(Before calldata before, uint256 lock) private view {
        assert(lock <= before.money.unlocked());
        assert(before.money.nonce() < OrderId.MAXIMUM_NONCE);
        unchecked {
            uint256 word = before.money - lock + (lock << 112) + (1 << 224);
            assert(_escrow.accountWord(before.account, before.token) == word);
        }
        assert(_escrow.accountWord(before.other) == before.otherMoney);
    }

    /// @dev Who is not the owner has a right to so much, in this account, token and epoch, and not over; it pays for the lock. No
    /// other right does.
    function _judgeRight(Before calldata before, address by, uint256 lock) private view {
        uint256 right = _escrow.rightOf(before.holder);
        if (by == before.owner) {
            assert(right == before.right);
            return;
        }
        assert(
            before.holder
                == (uint256(before.epoch) << 200) | (uint256(before.account) << 168) | (uint256(uint160(by)) << 8)
                    | before.token
        );
        assert(before.time < uint40(before.right >> 112));
        assert(lock <= uint112(before.right));
        unchecked {
            assert(right == before.right - lock);
        }
    }

    /// @dev The order is open with the terms that were asked for, and no other order is touched.
    function _judgeOrder(Before calldata before, Asked calldata asked, uint64 id) private view {
        assert(asked.maximumRate != 0 && asked.maximumRate <= OrderWord.MAXIMUM_RATE);
        assert(asked.duration != 0 && asked.duration <= OrderWord.MAXIMUM_DURATION);
        uint256 schedule = ((before.listed >> Fees.PACKED_BITS) & 255) << 1;
        assert(
            _book.wordOf(id)
                == OrderWord.open(asked.maximumRate, asked.duration, uint256(before.blockNumber) + BID_WINDOW, schedule)
        );
        assert(_book.termsHash(id) == TermsHash.whole(_terms(asked)));
        assert(_book.wordOf(before.otherOrder) == before.otherWord);
        assert(_book.termsHash(before.otherOrder) == before.otherTerms);
    }

    /// @dev What was signed is every term and the fees, and it counts once and until its deadline.
    function _judgeSigned(Before calldata before, OrderRequest memory request, Signed calldata signed, uint256 nonce)
        internal
        view
        override
    {
        assert(before.time <= request.deadline && request.nonce == nonce);
        unchecked {
            assert(_book.nonces(request.signer) == nonce + 1);
        }
        assert(request.feeSchedule == ((before.listed >> Fees.PACKED_BITS) & 255) << 1);
        bytes32 digest = SignedRequests.digest(SignedRequests.structHash(request), address(_book));
        assert(request.signer == ecrecover(digest, signed.v, signed.r, signed.s));
    }
}

/// @notice The same calls with a statement that must be false: that none of them ever creates an order, not even for one second at
/// one unit a second without fees.
contract CreationProbe is CreationCalls {
    function _judge(Before calldata before, Asked calldata asked, address, bool success, bytes memory)
        internal
        pure
        override
    {
        vm.assume(before.listed & ((1 << Fees.PACKED_BITS) - 1) == 0);
        vm.assume(asked.maximumRate == Fees.RATE_PERIOD && asked.duration == 1);
        assert(!success);
    }

    function _judgeSigned(Before calldata, OrderRequest memory, Signed calldata, uint256) internal pure override {}
}
