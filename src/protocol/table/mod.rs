//! The command table: every command of Redis 5.0 to 8 and Valkey, each written once.
//!
//! Classes follow the servers' own COMMAND flags; `tests/against_redis` holds the table against a live server. What
//! is not here counts as unknown and is treated as the worst case, so a missing line costs speed and never safety.
//! Left out on purpose: FT.* (its cursors live in one server), BF.SCANDUMP and CF.SCANDUMP (likewise).

use super::command::{Class, Command, Connection, Subscription, Timeout, Transaction};

mod index;
mod learnt;

pub use index::lookup;
use index::{EMPTY, count, fill, join};
pub use learnt::learnt;

/// Names of one class, separated by white space.
type Row = (Class, &'static str);

/// Every top-level command.
pub fn commands() -> &'static [Command] {
    &COMMANDS
}

static COMMANDS: [Command; TOTAL] = join(fill::<PLAIN_TOTAL>(PLAIN), SPECIAL);
const PLAIN_TOTAL: usize = count(PLAIN);
const TOTAL: usize = PLAIN_TOTAL + SPECIAL.len();

const PLAIN: &[Row] = &[
    // Keys, strings, bits
    (
        Class::Read,
        "BITCOUNT BITFIELD_RO BITPOS DBSIZE DIGEST DUMP EXISTS EXPIRETIME GET GETBIT GETRANGE KEYS LCS LOLWUT MGET
         PEXPIRETIME PTTL RANDOMKEY SORT_RO STRALGO STRLEN SUBSTR TOUCH TTL TYPE PFCOUNT",
    ),
    (
        Class::Write,
        "APPEND BITFIELD BITOP COPY DECR DECRBY DEL DELEX DELIFEQ EXPIRE EXPIREAT FLUSHALL FLUSHDB GETDEL GETEX GETSET
         INCR INCRBY INCRBYFLOAT MIGRATE MOVE MSET MSETEX MSETNX PERSIST PEXPIRE PEXPIREAT PSETEX RENAME RENAMENX
         RESTORE RESTORE-ASKING SET SETBIT SETEX SETNX SETRANGE SFLUSH SORT SWAPDB UNLINK PFADD PFDEBUG PFMERGE",
    ),
    // Hashes, lists, sets
    (
        Class::Read,
        "HEXISTS HEXPIRETIME HGET HGETALL HKEYS HLEN HMGET HPEXPIRETIME HPTTL HRANDFIELD HSTRLEN HTTL HVALS LINDEX LLEN
         LPOS LRANGE SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SRANDMEMBER SUNION",
    ),
    (
        Class::Write,
        "HDEL HEXPIRE HEXPIREAT HGETDEL HGETEX HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE HPEXPIREAT HSET HSETEX HSETNX
         LINSERT LMOVE LMPOP LPOP LPUSH LPUSHX LREM LSET LTRIM RPOP RPOPLPUSH RPUSH RPUSHX SADD SDIFFSTORE SINTERSTORE
         SMOVE SPOP SREM SUNIONSTORE",
    ),
    // Sorted sets, places, streams
    (
        Class::Read,
        "ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK
         ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCORE ZUNION GEODIST GEOHASH GEOPOS GEORADIUSBYMEMBER_RO
         GEORADIUS_RO GEOSEARCH XLEN XPENDING XRANGE XREVRANGE",
    ),
    (
        Class::Write,
        "ZADD ZDIFFSTORE ZINCRBY ZINTERSTORE ZMPOP ZPOPMAX ZPOPMIN ZRANGESTORE ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK
         ZREMRANGEBYSCORE ZUNIONSTORE GEOADD GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE XACK XACKDEL XADD XAUTOCLAIM
         XCFGSET XCLAIM XDEL XDELEX XSETID XTRIM",
    ),
    (Class::Scan, "SCAN HSCAN SSCAN ZSCAN CLUSTERSCAN"),
    // Messages
    (Class::Publish, "PUBLISH SPUBLISH"),
    (Class::Subscription(Subscription::Subscribe), "SUBSCRIBE"),
    (Class::Subscription(Subscription::Unsubscribe), "UNSUBSCRIBE"),
    (Class::Subscription(Subscription::PSubscribe), "PSUBSCRIBE"),
    (Class::Subscription(Subscription::PUnsubscribe), "PUNSUBSCRIBE"),
    (Class::Subscription(Subscription::SSubscribe), "SSUBSCRIBE"),
    (Class::Subscription(Subscription::SUnsubscribe), "SUNSUBSCRIBE"),
    // Transactions, the connection
    (Class::Transaction(Transaction::Multi), "MULTI"),
    (Class::Transaction(Transaction::Exec), "EXEC"),
    (Class::Transaction(Transaction::Discard), "DISCARD"),
    (Class::Transaction(Transaction::Watch), "WATCH"),
    (Class::Transaction(Transaction::Unwatch), "UNWATCH"),
    (Class::Connection(Connection::Auth), "AUTH"),
    (Class::Connection(Connection::Hello), "HELLO"),
    (Class::Connection(Connection::Select), "SELECT"),
    (Class::Connection(Connection::Reset), "RESET"),
    (Class::Connection(Connection::Quit), "QUIT"),
    (Class::Connection(Connection::ReadOnly), "READONLY"),
    (Class::Connection(Connection::ReadWrite), "READWRITE"),
    (Class::Connection(Connection::Asking), "ASKING"),
    // HIMPORT keeps its fieldsets in the connection.
    (Class::Connection(Connection::Other), "HIMPORT"),
    // The server
    (Class::Harmless, "ECHO INFO LASTSAVE PING ROLE TIME"),
    (
        Class::Admin,
        "BGREWRITEAOF BGSAVE DEBUG FAILOVER PFSELFTEST REPLICAOF SAVE SENTINEL SHUTDOWN SLAVEOF",
    ),
    (Class::Raw, "MONITOR PSYNC REPLCONF SYNC"),
    // Modules that Redis 8 brings along
    (
        Class::Read,
        "JSON.ARRINDEX JSON.ARRLEN JSON.GET JSON.MGET JSON.OBJKEYS JSON.OBJLEN JSON.RESP JSON.STRLEN JSON.TYPE
         BF.CARD BF.EXISTS BF.INFO BF.MEXISTS CF.COUNT CF.EXISTS CF.INFO CF.MEXISTS CMS.INFO CMS.QUERY TOPK.COUNT
         TOPK.INFO TOPK.LIST TOPK.QUERY TDIGEST.BYRANK TDIGEST.BYREVRANK TDIGEST.CDF TDIGEST.INFO TDIGEST.MAX
         TDIGEST.MIN TDIGEST.QUANTILE TDIGEST.RANK TDIGEST.REVRANK TDIGEST.TRIMMED_MEAN TS.GET TS.INFO TS.MGET
         TS.MRANGE TS.MREVRANGE TS.QUERYINDEX TS.RANGE TS.REVRANGE VCARD VDIM VEMB VGETATTR VINFO VISMEMBER VLINKS
         VRANDMEMBER VSIM",
    ),
    (
        Class::Write,
        "JSON.ARRAPPEND JSON.ARRINSERT JSON.ARRPOP JSON.ARRTRIM JSON.CLEAR JSON.DEL JSON.FORGET JSON.MERGE JSON.MSET
         JSON.NUMINCRBY JSON.NUMMULTBY JSON.SET JSON.STRAPPEND JSON.TOGGLE BF.ADD BF.INSERT BF.MADD BF.RESERVE
         CF.ADD CF.ADDNX CF.DEL CF.INSERT CF.INSERTNX CF.RESERVE CMS.INCRBY CMS.INITBYDIM CMS.INITBYPROB CMS.MERGE
         TOPK.ADD TOPK.INCRBY TOPK.RESERVE TDIGEST.ADD TDIGEST.CREATE TDIGEST.MERGE TDIGEST.RESET TS.ADD TS.ALTER
         TS.CREATE TS.CREATERULE TS.DECRBY TS.DEL TS.DELETERULE TS.INCRBY TS.MADD VADD VREM VSETATTR",
    ),
];

/// What blocks, what runs for as long as it likes, and what has sub-commands.
const SPECIAL: &[Command] = &[
    // While a script runs, the server answers -BUSY on every connection but the script's own.
    lengthy("EVAL", Class::Script),
    lengthy("EVALSHA", Class::Script),
    lengthy("FCALL", Class::Script),
    lengthy("EVAL_RO", Class::Read),
    lengthy("EVALSHA_RO", Class::Read),
    lengthy("FCALL_RO", Class::Read),
    blocking("BLPOP", Class::Write, Timeout::Last),
    blocking("BRPOP", Class::Write, Timeout::Last),
    blocking("BRPOPLPUSH", Class::Write, Timeout::Last),
    blocking("BLMOVE", Class::Write, Timeout::Last),
    blocking("BZPOPMIN", Class::Write, Timeout::Last),
    blocking("BZPOPMAX", Class::Write, Timeout::Last),
    blocking("BLMPOP", Class::Write, Timeout::First),
    blocking("BZMPOP", Class::Write, Timeout::First),
    blocking("XREAD", Class::Read, Timeout::AfterKeyword("BLOCK")),
    blocking("XREADGROUP", Class::Write, Timeout::AfterKeyword("BLOCK")),
    // They wait for what this connection wrote.
    blocking("WAIT", Class::Admin, Timeout::Wait),
    blocking("WAITAOF", Class::Admin, Timeout::Wait),
    container("ACL", Class::Admin, &fill::<{ count(ACL) }>(ACL)),
    container("CLIENT", Class::Connection(Connection::Other), &fill::<{ count(CLIENT) }>(CLIENT)),
    container("CLUSTER", Class::Admin, &fill::<{ count(CLUSTER) }>(CLUSTER)),
    container("COMMAND", Class::Harmless, &fill::<{ count(COMMAND) }>(COMMAND)),
    container("COMMANDLOG", Class::Admin, &fill::<{ count(SLOWLOG) }>(SLOWLOG)),
    container("CONFIG", Class::Admin, &fill::<{ count(CONFIG) }>(CONFIG)),
    container("FUNCTION", Class::Admin, &fill::<{ count(FUNCTION) }>(FUNCTION)),
    container("LATENCY", Class::Admin, &fill::<{ count(LATENCY) }>(LATENCY)),
    container("MEMORY", Class::Admin, &fill::<{ count(MEMORY) }>(MEMORY)),
    container("MODULE", Class::Admin, &fill::<{ count(MODULE) }>(MODULE)),
    container("OBJECT", Class::Admin, &fill::<{ count(OBJECT) }>(OBJECT)),
    container("PUBSUB", Class::Admin, &fill::<{ count(PUBSUB) }>(PUBSUB)),
    container("SCRIPT", Class::Admin, &fill::<{ count(SCRIPT) }>(SCRIPT)),
    container("SLOWLOG", Class::Admin, &fill::<{ count(SLOWLOG) }>(SLOWLOG)),
    container("XGROUP", Class::Write, &fill::<{ count(XGROUP) }>(XGROUP)),
    container("XINFO", Class::Admin, &fill::<{ count(XINFO) }>(XINFO)),
];

const ACL: &[Row] = &[
    (Class::Harmless, "CAT DRYRUN GENPASS GETUSER HELP LIST USERS WHOAMI"),
    // (ACL LOG RESET clears.)
    (Class::Admin, "DELUSER LOAD LOG SAVE SETUSER"),
];

const CLIENT: &[Row] = &[
    (Class::Connection(Connection::SetName), "SETNAME"),
    (Class::Connection(Connection::SetInfo), "SETINFO"),
    (Class::Connection(Connection::Reply), "REPLY"),
    (Class::Connection(Connection::NoEvict), "NO-EVICT"),
    (Class::Connection(Connection::NoTouch), "NO-TOUCH"),
    (Class::Connection(Connection::Tracking), "TRACKING"),
    (Class::Connection(Connection::Caching), "CACHING"),
    (Class::Connection(Connection::Id), "ID"),
    (Class::Connection(Connection::MaintNotifications), "MAINT_NOTIFICATIONS"),
    // By default CLIENT KILL spares the connection that it came through, and no other.
    (Class::Connection(Connection::Kill), "KILL"),
    (Class::Connection(Connection::Unblock), "UNBLOCK"),
    (Class::Connection(Connection::Info), "INFO"),
    (Class::Connection(Connection::List), "LIST"),
    (Class::Connection(Connection::Redirection), "GETREDIR TRACKINGINFO"),
    (Class::Connection(Connection::Other), "CAPA GETNAME IMPORT-SOURCE"),
    (Class::Harmless, "HELP"),
    (Class::Admin, "PAUSE UNPAUSE"),
];

const CLUSTER: &[Row] = &[
    (
        Class::Harmless,
        "COUNT-FAILURE-REPORTS COUNTKEYSINSLOT GETKEYSINSLOT HELP INFO KEYSLOT LINKS MYID MYSHARDID NODES REPLICAS
         SHARDS SLAVES SLOT-STATS SLOTS GETSLOTMIGRATIONS",
    ),
    (
        Class::Admin,
        "ADDSLOTS ADDSLOTSRANGE BUMPEPOCH CANCELSLOTMIGRATIONS DELSLOTS DELSLOTSRANGE FAILOVER FLUSHSLOTS
         FORGET MEET MIGRATESLOTS MIGRATION REPLICATE RESET SAVECONFIG SET-CONFIG-EPOCH SETSLOT SYNCSLOTS",
    ),
    (Class::Write, "FLUSHSLOT"),
];

const COMMAND: &[Row] = &[(Class::Harmless, "COUNT DOCS GETKEYS GETKEYSANDFLAGS HELP INFO LIST")];

const CONFIG: &[Row] = &[(Class::Harmless, "GET HELP"), (Class::Admin, "RESETSTAT REWRITE SET")];

const FUNCTION: &[Row] =
    &[(Class::Write, "DELETE FLUSH LOAD RESTORE"), (Class::Harmless, "DUMP HELP LIST STATS"), (Class::Admin, "KILL")];

const LATENCY: &[Row] = &[(Class::Harmless, "DOCTOR GRAPH HELP HISTOGRAM HISTORY LATEST"), (Class::Admin, "RESET")];

const MEMORY: &[Row] =
    &[(Class::Read, "USAGE"), (Class::Harmless, "DOCTOR HELP MALLOC-STATS STATS"), (Class::Admin, "PURGE")];

const MODULE: &[Row] = &[(Class::Harmless, "HELP LIST"), (Class::Admin, "LOAD LOADEX UNLOAD")];

const OBJECT: &[Row] = &[(Class::Read, "ENCODING FREQ IDLETIME REFCOUNT"), (Class::Harmless, "HELP")];

const PUBSUB: &[Row] = &[(Class::Harmless, "CHANNELS HELP NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB")];

// To load a script twice is to load it once.
const SCRIPT: &[Row] = &[
    (Class::Harmless, "EXISTS HELP LOAD SHOW"),
    (Class::Admin, "FLUSH KILL"),
    (Class::Connection(Connection::Other), "DEBUG"),
];

const SLOWLOG: &[Row] = &[(Class::Harmless, "GET HELP LEN"), (Class::Admin, "RESET")];

const XGROUP: &[Row] = &[(Class::Write, "CREATE CREATECONSUMER DELCONSUMER DESTROY SETID"), (Class::Harmless, "HELP")];

const XINFO: &[Row] = &[(Class::Read, "CONSUMERS GROUPS STREAM"), (Class::Harmless, "HELP")];

const fn lengthy(name: &'static str, class: Class) -> Command {
    Command { name, class, own: true, ..EMPTY }
}

const fn blocking(name: &'static str, class: Class, timeout: Timeout) -> Command {
    Command { name, class, blocks: Some(timeout), ..EMPTY }
}

const fn container(name: &'static str, class: Class, subs: &'static [Command]) -> Command {
    Command { name, class, subs, ..EMPTY }
}
