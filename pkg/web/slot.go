package web

import "net/http"

// Slot is what the pages get from the door; the house (a View, a Commander) they get from whoever makes them. They are
// one http.Handler, made by ServerConfig.Pages, that is asked for everything but /api/, /metrics, /healthz, /readyz, POST
// /login and POST /logout.
//
// Who passes: only a request that is signed in reaches the handler, with three exceptions that everybody may see: GET
// /login, GET /assets/… and GET /favicon.ico. Everybody else is sent to /login?next=PATH with 303. Where no password is
// set (a loopback address), everybody is signed in and /login leads to /.
//
// Signing in: a form of GET /login posts "password" and "next" to /login; the door sets the cookie and sends the browser
// to next. A wrong password leads back to /login?wrong=1&next=…, a throttled one to /login?wait=SECONDS&next=…; the page
// shows that. A form that posts to /logout ends the session.
//
// A token opens no page: the pages can do more than a token may. The context of a GET ends when the server begins to end,
// and within 15 s after the session did, so a page that listens or plays has to follow it.
//
// Forging: requests of other sites that change something are refused before they reach the handler
// (http.CrossOriginProtection), so forms need no hidden token. Whatever changes something must be a POST, never a GET.
//
// Content-Security-Policy is set by the door for every answer, and has no nonce and no 'unsafe-inline': no <script> or
// <style> with content, no on… and no style="…" attributes (styles that a script sets through the DOM are allowed); all
// scripts, styles, fonts and pictures come from /assets/. blob: is allowed for media, workers and images, data: for
// images. htmx needs includeIndicatorStyles:false and allowEval:false in its config. The other security headers are set
// too; Cache-Control is "no-store" unless the handler sets it, as /assets/ should.
//
// Time: an answer has 30 s to be written. One that takes longer (a preview) calls ExtendWrite before each write; a
// request body has at most 64 KiB. Text that is longer than a network packet is compressed on the way.
type Slot struct {
	// Locked reports whether there is a password, and so a session that can be ended.
	Locked bool
	// SignedIn reports whether a request comes from somebody who may see everything; in the handler it is false only
	// for the paths that everybody may see.
	SignedIn func(r *http.Request) bool
}
