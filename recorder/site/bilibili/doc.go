// Package bilibili is the site of live.bilibili.com: what a room is, whether it is live, and where its stream can be had.
//
// It owns the addresses of rooms, the one batched question about the status of all rooms, the ladder of qualities, the
// order of hosts, and the rule that a refusal of the platform to talk to us makes a room blocked and never offline. The
// platform's own word ends a broadcast; a connection that broke does not. It never retries on its own account and never
// asks while a refusal is being waited out: asking prolongs it.
package bilibili
