//! Bytes to meaning; knows RESP, nothing else.
//!
//! Requests and replies are framed by two machines of our own ([`request`], [`reply`]): resumable, iterative, without
//! an allocation, bounded by what the peer has sent. They find where a frame ends and hold no bytes: the caller does.
//! What a name means is the command table's ([`command`], [`table`]); what a refusal means is [`refusal`]'s; small
//! replies that we asked for ourselves become facts in [`info`].
//!
//! Nothing here knows connections, nodes or time. The wire words `master` and `slave` occur here only.

pub mod args;
pub mod command;
mod decimal;
pub mod encode;
pub mod info;
pub mod inline;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod sentinel;
pub mod table;
