package bilibili

import (
	"errors"
	"fmt"
	"time"

	"github.com/liverec/liverec/pkg/failure"
)

// Refusal is the remote's own no. It is the cause below a *failure.Error.
type Refusal struct {
	Code    int64  // of the envelope; minus the HTTP status where there was no envelope
	Status  int    // HTTP
	Message string // the remote's words, cut to 200 characters
	Voucher bool   // it wants a captcha (v_voucher)
}

func (r *Refusal) Error() string {
	if r.Message == "" {
		return "refused"
	}
	return r.Message
}

// CodeOf is the code of the Refusal in err's chain, 0 if there is none.
func CodeOf(err error) int64 {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Code
	}
	return 0
}

// OtherWay reports whether err refuses the interface and not what was asked of it, so that the same account may be heard
// through another one (reference 5.4 and rule 13 of chapter 8): nothing was made.
func OtherWay(err error) bool {
	switch CodeOf(err) {
	case 21138, 21150, 21564, 21566, 21590, 137022:
		return true
	}
	return false
}

// scope is what a refusal holds back.
type scope uint8

const (
	holdsNothing scope = iota
	holdsClass         // the class that was refused
	holdsUploads       // preuploads and submissions
	holdsAll           // everything of the account: the address is blocked
)

// rule is a row of the table.
type rule struct {
	kind  failure.Kind
	first time.Duration // wait after the first refusal
	most  time.Duration // longest wait after a series of them
	scope scope
	hint  string // %s is the cookie file's login hint
}

// What a person can do.
const (
	hintLogin   = "%s"
	hintManual  = "Submit one video by hand at https://member.bilibili.com/platform/upload/video/frame or in the phone app, where a captcha may appear; or wait."
	hintPhone   = "Submit one video by hand in the phone app, where a captcha may appear; if that does not help, log out of all devices and log in again."
	hintBlocked = "Bilibili blocks this address for some minutes: fewer rooms or longer distances between questions help; asking again prolongs it."
	hintFields  = "Check the options of the bilibili: target."
	hintOld     = "Bilibili does not take submissions this way any more: look for a newer liverec."
	hintClock   = "Check the clock of this machine."
)

// table is chapter 5.4 of the upload reference and chapter 7 of the live one. A code that is not in it is Transient: it
// is tried again and nothing is concluded from it.
var table = map[int64]rule{
	-101:  {kind: failure.NeedsHuman, hint: hintLogin},
	-111:  {kind: failure.NeedsHuman, hint: hintLogin},
	-663:  {kind: failure.NeedsHuman, hint: hintLogin},
	-3:    {kind: failure.NeedsHuman, hint: hintClock},
	-105:  {kind: failure.NeedsHuman, hint: hintLogin},
	-400:  {kind: failure.Permanent},
	-403:  {kind: failure.Permanent},
	-404:  {kind: failure.Permanent},
	62002: {kind: failure.Permanent},
	86095: {kind: failure.NeedsHuman, hint: hintLogin},

	// The address or the client is suspected.
	-412: {kind: failure.Throttled, first: 2 * time.Minute, most: time.Hour, scope: holdsAll, hint: hintBlocked},
	-352: {kind: failure.Throttled, first: 5 * time.Minute, most: 30 * time.Minute, scope: holdsAll, hint: hintBlocked},
	-799: {kind: failure.Throttled, first: time.Minute, most: 15 * time.Minute, scope: holdsAll},

	// Too many uploads or submissions.
	406:    {kind: failure.Throttled, first: 15 * time.Minute, most: 8 * time.Hour, scope: holdsUploads, hint: hintManual},
	601:    {kind: failure.Throttled, first: 15 * time.Minute, most: 8 * time.Hour, scope: holdsUploads, hint: hintManual},
	21070:  {kind: failure.Throttled, first: 30 * time.Second, most: 10 * time.Minute, scope: holdsClass},
	21186:  {kind: failure.Throttled, first: 15 * time.Minute, most: 4 * time.Hour, scope: holdsClass},
	21515:  {kind: failure.Throttled, first: 12 * time.Hour, most: 24 * time.Hour, scope: holdsUploads, hint: hintManual},
	21564:  {kind: failure.Throttled, first: 24 * time.Hour, most: 24 * time.Hour, scope: holdsClass, hint: hintManual},
	21566:  {kind: failure.Throttled, first: time.Hour, most: 24 * time.Hour, scope: holdsClass, hint: hintPhone},
	137022: {kind: failure.Throttled, first: 2 * time.Hour, most: 24 * time.Hour, scope: holdsClass, hint: hintManual},
	21111:  {kind: failure.Throttled, first: 10 * time.Minute, most: time.Hour, scope: holdsClass},
	21138:  {kind: failure.Throttled, first: 15 * time.Minute, most: 4 * time.Hour, scope: holdsClass, hint: hintManual},

	// The submission itself.
	10009:  {kind: failure.Permanent}, // the same file stands in another submission
	21012:  {kind: failure.Throttled, first: 10 * time.Minute, most: time.Hour, scope: holdsNothing},
	21011:  {kind: failure.Permanent},
	21015:  {kind: failure.Permanent}, // a file is unknown or not completed: only another upload helps
	21058:  {kind: failure.Permanent}, // more than 100 new parts
	16025:  {kind: failure.NeedsHuman, hint: "Bilibili forbids one of the tags: change `tag` of the bilibili: target."},
	20042:  {kind: failure.Transient},
	20086:  {kind: failure.NeedsHuman, hint: hintFields},
	21001:  {kind: failure.NeedsHuman, hint: hintFields},
	21002:  {kind: failure.NeedsHuman, hint: "Bilibili does not take this partition: change `tid` of the bilibili: target."},
	21021:  {kind: failure.NeedsHuman, hint: "A reprint needs its source: set `source`, or `copyright=1`."},
	21103:  {kind: failure.NeedsHuman, hint: "The title may have 80 characters: shorten `--title`."},
	21160:  {kind: failure.NeedsHuman, hint: "The description is too long: shorten `desc` of the bilibili: target."},
	21150:  {kind: failure.NeedsHuman, hint: hintOld},
	21590:  {kind: failure.NeedsHuman, hint: hintOld},
	100000: {kind: failure.Throttled, first: 15 * time.Minute, most: time.Hour, scope: holdsNothing},
}

// ruleOf is the row for a refusal.
func ruleOf(r *Refusal) rule {
	if t, ok := table[r.Code]; ok {
		return t
	}
	if r.Voucher {
		return table[601]
	}
	switch {
	case r.Status == 429:
		return table[-799]
	case r.Status == 412:
		return table[-412]
	}
	return rule{kind: failure.Transient}
}

// trouble makes the error of a refusal.
func trouble(op string, r *Refusal, path string) *failure.Error {
	t := ruleOf(r)
	hint := t.hint
	if hint == hintLogin {
		hint = loginHint(path)
	}
	code := fmt.Sprint(r.Code)
	if r.Code == -int64(r.Status) && r.Status != 0 {
		code = fmt.Sprintf("HTTP %d", r.Status)
	}
	return &failure.Error{Op: op, Kind: t.kind, Code: code, RetryAfter: t.first, Hint: hint, Err: r}
}
