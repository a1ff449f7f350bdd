// Package fetch gets one resource of a live stream at a time: a playlist, a key, an initialisation section, a segment.
//
// It owns how a server is asked and what an answer may cost: time to the first byte, between two bytes and in all;
// bytes, also after decompression; redirects; and which places a playlist may send us to. It never tries again, keeps no
// copy, and does not know what is in a body.
//
// # Places
//
// A stream on a public host must not lead into the network behind us: private, loopback and link-local addresses, and
// names that resolve to such, are refused unless the room's own address is there too. Only http and https are asked.
// Behind a proxy names cannot be resolved here; then only what is written in the URL counts.
//
// No error text holds a URL: it may carry a signature.
package fetch
