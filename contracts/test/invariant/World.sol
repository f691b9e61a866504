// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Escrow} from "../../src/market/Escrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {FeeSchedule, LeaseResources, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {Books} from "./Books.sol";
import {Ledger} from "./Ledger.sol";
import {HostileToken} from "./HostileToken.sol";
import {MovingFeed} from "./MovingFeed.sol";

interface IToken {
    function mint(address to, uint256 amount) external;
    function approve(address spender, uint256 amount) external;
    function transfer(address to, uint256 amount) external;
    function balanceOf(address holder) external view returns (uint256);
}

/// @notice Who takes part, what governance has set, and how one of them is picked by a number.
abstract contract World is Books {
    /// @dev Everything a campaign has to get to; see {MarketHandler-reached}.
    enum Reached {
        Deposit,
        DepositByPermit,
        DepositByPermit2,
        Withdrawal,
        WithdrawnElsewhere,
        HandOver,
        HandOverByApproval,
        HandOverByOperator,
        RightGranted,
        Order,
        OrderBySpender,
        OrderBySignature,
        NonceSkipped,
        OrderAboveBracket,
        OrderStopped,
        Bid,
        BidAlone,
        Cancelled,
        CancelledBySignature,
        Expired,
        Requeued,
        Leased,
        LeasedBehindGateway,
        LeasedRebated,
        MatchedOnChain,
        ClosedByUser,
        ClosedBySpender,
        ClosedBySignature,
        ClosedBySupplier,
        ClosedHeld,
        ClosedInGrace,
        ClosedAtEnd,
        Extended,
        ExtendedInGrace,
        ExtendedBySpender,
        Announced,
        Proposed,
        Rejected,
        FallenWithRight,
        FallenWithFees,
        Updated,
        UpdatedBySpender,
        UpdatedHeld,
        Settled,
        SettledHeld,
        SettledAndWithdrawn,
        CreditWithdrawn,
        Rated,
        UndoneLive,
        UndoneClosed,
        Slashed,
        FeesChanged,
        FeedChanged,
        PriceKept,
        BiddingChanged,
        Delisted,
        Paused,
        Reentered,
        TransferBlocked,
        PathsCompared,
        COUNT
    }

    struct Supplier {
        address owner;
        uint32 id;
        uint32 gateway;
        bool rebated;
    }

    /// @dev What a user proposed in place of a lease: enough to build the terms once more, and how things stood then.
    struct Proposal {
        uint256 shape;
        uint96 maximumRate;
        uint32 duration;
        uint40 expiry;
        uint32 epoch;
        /// How often the right of who proposed was set by then, 0 for the owner.
        uint256 setting;
        /// The token's.
        uint16 schedule;
        address by;
        bool there;
    }

    struct Roles {
        address admin;
        address registry;
        address taskManager;
        address disputes;
        address slasher;
        address responder;
        address foundation;
    }

    uint256 internal constant MOST_ENTRIES = 48;
    uint256 internal constant MOST_SCHEDULES = 16;
    /// @dev The match fees of the harness's schedules would cost a token with six decimals too much.
    uint256 private constant FIRST_OF_OURS = 6;

    ILeases public immutable leases;
    IPaymentTokens public immutable paymentTokens;
    HostileToken public immutable hostile;
    MovingFeed public immutable feed;
    uint8 public immutable hostileId;
    uint16 internal immutable _paramsVersion;
    uint256 internal immutable _responseWindow;
    uint256 internal immutable _matchWindow;
    uint256 internal immutable _longestGrace;
    uint256 internal immutable _longestWarning;

    Roles internal _roles;
    address internal _foundation;
    address internal _otherFoundation = makeAddress("other foundation");
    address internal _stranger = makeAddress("stranger");
    address[] internal _users;
    address[] internal _spenders;
    mapping(address signer => uint256) internal _keys;
    Supplier[] internal _suppliers;
    mapping(uint32 supplier => uint256 indexPlusOne) internal _supplierAt;
    mapping(uint32 account => address) internal _ownerOf;
    mapping(uint32 account => uint32) internal _epochs;
    mapping(bytes32 => SpendingRight) internal _rights;
    /// @dev How often each right was set.
    mapping(bytes32 => uint256) internal _settings;
    mapping(uint64 orderId => Proposal) internal _proposals;
    mapping(uint64 orderId => bool) internal _rated;
    mapping(uint8 token => bool) internal _enabled;
    mapping(uint8 token => uint16) internal _currentSchedule;
    mapping(uint8 token => uint256) internal _caps;
    bool internal _paused;
    bool internal _depositing;

    mapping(uint256 what => uint256) internal _reached;
    /// @notice Steps taken, and those that found something to do.
    uint256 public steps;
    uint256 public fruitful;
    uint256 private _lastFruitful;

    constructor(
        Escrow escrow_,
        IOrderBook book_,
        IPaymentTokens paymentTokens_,
        HostileToken hostile_,
        uint8 hostileId_,
        MovingFeed feed_,
        Roles memory roles
    ) Ledger(escrow_, book_) {
        leases = ILeases(address(book_));
        paymentTokens = paymentTokens_;
        (hostile, hostileId, feed, _roles, _foundation) = (hostile_, hostileId_, feed_, roles, roles.foundation);
        IOrderBook.Parameters memory parameters = book_.parameters();
        _paramsVersion = parameters.paramsVersion;
        _responseWindow = parameters.responseWindow;
        _matchWindow = parameters.matchWindow;
        _longestGrace = parameters.graceWindow;
        _longestWarning = parameters.lowFundsWindow;
        _addPayee(roles.responder);
        _addPayee(roles.foundation);
        _addPayee(_otherFoundation);
    }

    // ------------------------------------------------------------------ set-up

    modifier onlyAdmin() {
        require(msg.sender == _roles.admin, "only the test sets the world up");
        _;
    }

    /// @dev Calls of the handler to itself, so that what fails is undone with its entries in the ledger.
    modifier onlySelf() {
        require(msg.sender == address(this), "only the handler");
        _;
    }

    function addToken(uint8 id, address tokenAddress, uint16 schedule, uint256 cap) external onlyAdmin {
        _tokens.push(id);
        _tokenAddress[id] = tokenAddress;
        (_enabled[id], _currentSchedule[id], _caps[id]) = (true, schedule, cap);
    }

    /// @dev Fills ids 0 and 1, which are nobody's.
    function addSchedules(FeeSchedule calldata schedule, uint16 rebatedCommission) external onlyAdmin {
        _pushSchedules(schedule, rebatedCommission);
    }

    function addUser(string calldata name) external onlyAdmin {
        _users.push(_actor(name));
        _openAccount(_users[_users.length - 1]);
    }

    function addSpender(string calldata name) external onlyAdmin {
        _spenders.push(_actor(name));
    }

    function addSupplier(address owner, uint32 id, uint32 gateway, bool rebated) external onlyAdmin {
        _suppliers.push(Supplier(owner, id, gateway, rebated));
        _supplierAt[id] = _suppliers.length;
        _addPayee(owner);
    }

    function _actor(string calldata name) private returns (address actor) {
        actor = makeAddress(name);
        _keys[actor] = uint256(keccak256(bytes(name)));
    }

    function _pushSchedules(FeeSchedule memory schedule, uint16 rebatedCommission) internal {
        if (_schedules.length == 0) {
            _schedules.push();
            _schedules.push();
        }
        _schedules.push(schedule);
        schedule.commission = rebatedCommission;
        _schedules.push(schedule);
    }

    function _openAccount(address owner) internal {
        uint32 account = escrow.open(owner);
        _accounts.push(account);
        _ownerOf[account] = owner;
    }

    // ------------------------------------------------------------------ picking

    /// @dev Independent small numbers from one: the same seed and label give the same draw.
    function _draw(uint256 seed, uint256 label, uint256 choices) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, label))) % choices;
    }

    function _pickAccount(uint256 seed) internal view returns (uint32) {
        return _accounts[_draw(seed, 1, _accounts.length)];
    }

    function _pickToken(uint256 seed) internal view returns (uint8) {
        return _tokens[_draw(seed, 2, _tokens.length)];
    }

    function _pickSpender(uint256 seed) internal view returns (address) {
        return _spenders[_draw(seed, 3, _spenders.length)];
    }

    /// @dev The next entry in a state, counted from a random one; false if there is none.
    function _pickIn(uint256 seed, OrderState state) internal view returns (bool found, uint256 index) {
        uint256 count = _entries.length;
        if (count == 0) return (false, 0);
        uint256 first = seed % count;
        for (uint256 step = 0; step < count; ++step) {
            index = (first + step) % count;
            if (_entries[index].state == state) return (true, index);
        }
        return (false, 0);
    }

    /// @dev An entry that is or was a lease.
    function _pickLease(uint256 seed) internal view returns (bool found, uint256 index) {
        uint256 count = _entries.length;
        if (count == 0) return (false, 0);
        uint256 first = seed % count;
        for (uint256 step = 0; step < count; ++step) {
            index = (first + step) % count;
            if (_entries[index].start != 0) return (true, index);
        }
        return (false, 0);
    }

    function _supplierOwner(uint32 supplier) internal view returns (address) {
        return _suppliers[_supplierAt[supplier] - 1].owner;
    }

    /// @dev Owner of the supplier's gateway, zero for a provider.
    function _gatewayOwner(uint32 supplier) internal view returns (address) {
        uint32 gateway = _suppliers[_supplierAt[supplier] - 1].gateway;
        return gateway == 0 ? address(0) : _supplierOwner(gateway);
    }

    // ------------------------------------------------------------------- terms

    /// @dev Up to 5 CPUs, 4 GiB, some storage, now and then GPUs of two models.
    function _terms(uint256 shape, uint96 rate, uint32 duration) internal view returns (OrderTerms memory terms) {
        terms.resources = (shape & 0xff) | ((1 + ((shape >> 8) & 0x3f)) << 22) | ((1 + ((shape >> 16) & 0x1ff)) << 42);
        uint256 gpus = (shape >> 32) & 7;
        if (gpus == 1 || gpus == 2) terms.resources |= (gpus << 62) | (6 << 96);
        terms.requirements = (0xfe << 8) | (uint256(_paramsVersion) << 88);
        terms.regions = type(uint256).max;
        terms.manifestHash = keccak256(abi.encode(shape));
        (terms.maximumRate, terms.duration) = (rate, duration);
        (terms.wantedSuppliers, terms.excludedSuppliers) = (new uint32[](0), new uint32[](0));
    }

    function _resourcesOf(Entry storage entry) internal view returns (LeaseResources memory) {
        return LeaseResources(entry.resources, entry.restHash);
    }

    /// @dev The whitepaper's step, doubled `bracket - 1` times: 8 CPUs, 32 GiB, 512 GiB; or 1 GPU, 32 CPUs, 128 GiB, 1 TiB.
    function _withinBracket(uint256 resources, uint256 bracket, uint256 topGpus) internal pure returns (bool) {
        if (bracket == 0) return false;
        uint256 times = 2 ** (bracket - 1);
        uint256 gpus = (resources >> 62) & 0xfff;
        if ((resources >> 96) & topGpus != 0) gpus *= 4;
        uint256 cpus = gpus == 0 ? 8 : 32;
        uint256 gibibytes = gpus == 0 ? 32 : 128;
        uint256 storageGibibytes = gpus == 0 ? 512 : 1_024;
        return gpus <= times && ((resources >> 42) & 0xfffff) <= 100 * cpus * times
            && ((resources >> 22) & 0xfffff) * 16 <= 1_024 * gibibytes * times
            && (resources & 0x3fffff) * 256 <= 1_024 * storageGibibytes * times;
    }

    // ------------------------------------------------------------------- times

    function _graceOf(uint256 duration) internal view returns (uint256) {
        return duration / 16 < _longestGrace ? duration / 16 : _longestGrace;
    }

    /// @dev From this Unix time on a lease is over, whatever anybody says.
    function _overAt(Entry storage entry) internal view returns (uint256) {
        return uint256(entry.start) + entry.duration + _graceOf(entry.duration);
    }

    function _billable(Entry storage entry) internal view returns (uint256) {
        uint256 elapsed = block.timestamp - entry.start;
        return elapsed < entry.duration ? elapsed : entry.duration;
    }

    function _isHeld(Entry storage entry) internal view returns (bool) {
        return block.timestamp < uint256(entry.start) + _hold;
    }

    /// @dev Seconds up to which a lease can be paid now.
    function _payableUntil(Entry storage entry) internal view returns (uint256) {
        if (_isHeld(entry)) return entry.paidTo;
        return entry.state == OrderState.Leased ? _billable(entry) : entry.duration;
    }

    // ------------------------------------------------------------------ rights

    function _rightKey(uint32 account, address spender, uint8 token) internal view returns (bytes32) {
        return keccak256(abi.encode(account, _epochs[account], spender, token));
    }

    /// @dev Whether `caller` may lock so much.
    function _maySpend(uint32 account, uint8 token, address caller, uint256 amount) internal view returns (bool) {
        if (caller == _ownerOf[account]) return true;
        SpendingRight storage right = _rights[_rightKey(account, caller, token)];
        return block.timestamp < right.expiry && amount <= right.limit;
    }

    function _mayClose(uint32 account, uint8 token, address caller) internal view returns (bool) {
        if (caller == _ownerOf[account]) return true;
        SpendingRight storage right = _rights[_rightKey(account, caller, token)];
        return block.timestamp < right.expiry && right.mayClose;
    }

    /// @dev By which setting of its right `caller` acts, 0 for the owner.
    function _settingOf(uint32 account, uint8 token, address caller) internal view returns (uint256) {
        return caller == _ownerOf[account] ? 0 : _settings[_rightKey(account, caller, token)];
    }

    /// @dev What a spender locks never comes back to its limit.
    function _consume(uint32 account, uint8 token, address caller, uint256 amount) internal {
        if (caller == _ownerOf[account]) return;
        _rights[_rightKey(account, caller, token)].limit -= uint112(amount);
        _seeRight(account, token, caller);
    }

    function _seeRight(uint32 account, uint8 token, address spender) internal {
        bytes32 seen = keccak256(abi.encode(escrow.spendingRight(account, spender, token)));
        bytes32 kept = keccak256(abi.encode(_rights[_rightKey(account, spender, token)]));
        _require(seen == kept, 4, "a spending right is other than what is left of it");
    }

    // --------------------------------------------------------------------- fees

    /// @dev Governance gives a token the fees of one of our pairs, now and then the same once more.
    function _changeFees(uint8 token, uint256 seed) internal {
        _setFees(token, _draw(seed, 82, _pairs()));
    }

    function _setFees(uint8 token, uint256 pair) internal {
        _currentSchedule[token] = uint16(FIRST_OF_OURS + 2 * pair);
        vm.prank(_roles.admin);
        paymentTokens.setFeeSchedule(token, _currentSchedule[token]);
    }

    function _otherPair(uint8 token) internal view returns (uint256) {
        return ((_currentSchedule[token] - FIRST_OF_OURS) / 2 + 1) % _pairs();
    }

    function _pairs() private view returns (uint256) {
        return (_schedules.length - FIRST_OF_OURS) / 2;
    }

    // ----------------------------------------------------------------- the token

    function _moves(uint8 token, address from, address to) internal view returns (bool) {
        if (token != hostileId) return true;
        return !hostile.paused() && !hostile.blocked(from) && !hostile.blocked(to);
    }

    function _isArmed(uint8 token) internal view returns (bool) {
        return token == hostileId && hostile.armed();
    }

    // ------------------------------------------------------------------- capacity

    /// @notice What is used of every supplier's capacity is what its live leases use.
    function capacityInUse() external view returns (string memory) {
        for (uint256 which = 0; which < _suppliers.length; ++which) {
            uint32 supplier = _suppliers[which].id;
            uint256[7] memory used;
            bool leased = false;
            for (uint256 index = 0; index < _entries.length; ++index) {
                Entry storage entry = _entries[index];
                if (entry.state != OrderState.Leased || entry.supplier != supplier) continue;
                leased = true;
                used[0] += entry.resources & 0x3fffff;
                used[1] += (entry.resources >> 22) & 0xfffff;
                used[2] += (entry.resources >> 42) & 0xfffff;
                used[3 + ((entry.word >> 249) & 3)] += (entry.resources >> 62) & 0xfff;
            }
            (uint256 capacity,,) = book.capacityOf(supplier);
            bool same = _used(capacity, 0, 22) == used[0] && _used(capacity, 44, 20) == used[1]
                && _used(capacity, 84, 20) == used[2];
            for (uint256 entry = 0; entry < 4; ++entry) {
                same = same && _used(capacity, 124 + 32 * entry, 12) == used[3 + entry];
            }
            if (!same) return "a supplier's capacity is used by no lease, or by one too many";
            if (book.hasLease(supplier) != leased) return "a supplier has a lease, or none, and does not know it";
        }
        return "";
    }

    function _used(uint256 capacity, uint256 offset, uint256 width) private pure returns (uint256) {
        uint256 mask = (1 << width) - 1;
        return ((capacity >> (offset + width)) & mask) - ((capacity >> offset) & mask);
    }

    function _reach(Reached what) internal {
        ++_reached[uint256(what)];
        _bear();
    }

    /// @dev A step that found something to do, counted once whatever it did.
    function _bear() internal {
        if (_lastFruitful == steps) return;
        _lastFruitful = steps;
        ++fruitful;
    }

    function reached(uint256 what) external view returns (uint256) {
        return _reached[what];
    }
}
