// Package submission shows the parts of a session on Bilibili: one submission per broadcast, made with the first parts
// that are stored and set to the whole list with each later one.
//
// It owns what a submission says and in which order, and the note in the ledger that says which submissions are ours. It
// never uploads, never deletes a part or a submission, never sends a list with fewer of the parts than were fetched, and
// never makes a submission while it is not known what became of an earlier attempt. Rows of the upload reference are
// cited as "U".
//
// # The mark
//
// A submission is ours when one of its parts has a file name that we were given for a part of the session (the receipt's
// Tag): the server makes these names, no two are the same, and nobody sees them. So no mark stands in title or
// description, and what a person edits there does not confuse us.
//
// # Writing
//
// Every fetch and edit happens as the only writer of the account (U 5.3: the last writer wins). An edit takes what was
// fetched: foreign parts stay, old parts keep their cid (without it they count as new), a part that was sent again takes
// the place of the one that failed, a missing one goes between its neighbours. Title, description and tags are only
// changed where what we want has changed since we last said it: an edit by hand is respected. A title that the streamer
// changes during the broadcast changes nothing: each edit of a public submission brings a review (U 5.3), and one evening
// is one submission under one name. Control.Edit and another template do.
//
// Web and app are two ways into the same submissions, with a pace of their own each. A refusal of one way that says
// nothing about the submission (bilibili.OtherWay) has the other one tried at once, if the cookie file holds a token; only
// when both refuse is it waited. The way that was not refused last is tried first.
//
// The attempt to make a submission is on record before it is made (K9). When its answer is lost, the account's list is
// asked for the file name until it shows it; only after patience has ended without is another attempt made, with the same
// first file, which Bilibili refuses in a second submission (U 5.4, 10009).
//
// # Proof
//
// A part counts when archive/view has it with the duration of the file, no failure, and the state that `release` asks
// for. A transcode state that can still turn bad counts as nothing: first renditions (2) are followed by the second stage
// (3 is its failure, U 6.3), so only 6 is the end, or a 2 that has stood for two days on a public part.
package submission

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/segment"
)

// Release is when a part counts as safe.
type Release string

// The releases, each of which asks for all before it. Stored is the affair of transport: control has nothing to prove.
const (
	Stored     Release = "stored"
	Listed     Release = "listed"
	Transcoded Release = "transcoded"
	Published  Release = "published"
)

// Config is what a submission says.
type Config struct {
	Target  segment.TargetID
	Account func() (*bilibili.Client, *bilibili.Governor, error)
	Refused func() // the login was refused: perhaps it can be renewed; nil: nobody does that; must not block

	// Templates; a zero one is empty text.
	Title, Tag, Desc, Source, Dynamic naming.Template
	// TitleOf is the title of the submissions of a room, asked at each edit: it may change while the broadcast goes on.
	// False, and nil: Title.
	TitleOf func(segment.Room) (naming.Template, bool)

	TID       int
	Copyright int    // 1 original, 2 reprint
	Cover     string // an image file or the address of an image that Bilibili has; "": a frame
	Private   bool
	Parts     int // most parts of one submission
	Release   Release
	Continue  bool           // a submission that was lost is followed by another; false: a person decides
	Zone      *time.Location // of dates in texts; nil: local
	Log       zerolog.Logger
}

const (
	maxTitle = 80   // U 5.2, characters
	maxDesc  = 2000 // U 5.2
	maxNew   = 100  // new parts of one call, U 5.3

	// patience is how long the list may take to show what was made.
	patience = 30 * time.Minute
	// gone is how long a submission has to be not found before that is believed.
	gone = 10 * time.Minute
	// settled is after how long the first renditions are taken for all there will be.
	settled = 48 * time.Hour
	// tries is how often a part is sent.
	tries = 2
	// held is how often something that only a person can change is looked at.
	held = 10 * time.Minute
	// reask is how often a login that was refused is tried although the cookie file is the same.
	reask = 10 * time.Minute
)

// Publisher makes and edits submissions.
type Publisher struct {
	cfg Config

	mu      sync.Mutex
	dead    *bilibili.Credentials // that were refused
	deadErr error
	deadAt  time.Time
	covers  map[string]string // the addresses that cover files got
	app     bool              // the app's way comes first
}

var _ control.Submitter = (*Publisher)(nil)

// New checks the configuration. It asks nobody.
func New(cfg Config) (*Publisher, error) {
	switch {
	case cfg.Account == nil || cfg.Target == "":
		return nil, errors.New("submission: an account and its target are needed")
	case cfg.Parts < 1:
		return nil, fmt.Errorf("submission: at most %d parts", cfg.Parts)
	case !slices.Contains([]Release{Stored, Listed, Transcoded, Published}, cfg.Release):
		return nil, fmt.Errorf("submission: %q is no release", cfg.Release)
	}
	if cfg.Zone == nil {
		cfg.Zone = time.Local
	}
	return &Publisher{cfg: cfg, covers: map[string]string{}}, nil
}

// Target is the account.
func (p *Publisher) Target() segment.TargetID { return p.cfg.Target }

// note is what the ledger keeps for us about one session.
type note struct {
	Subs []sub `json:"subs,omitempty"`
	Try  *try  `json:"try,omitempty"`
	// Failed are the file names under which parts failed, by Seq.
	Failed map[uint32][]string `json:"failed,omitempty"`
	// Told is what a person wants the submissions to say. "": what the templates say.
	Told control.Facts `json:"told,omitzero"`
}

// sub is one of our submissions.
type sub struct {
	AID   int64     `json:"aid"`
	BVID  string    `json:"bvid"`
	At    time.Time `json:"at"`              // when it was made or found
	Parts []entry   `json:"parts"`           // what it shows of ours
	Tried []entry   `json:"tried,omitempty"` // what edits whose answer was lost may have put into it
	Sure  bool      `json:"sure"`            // it was seen to show them
	Lost  string    `json:"lost,omitempty"`  // why nothing is added to it any more
	Gone  time.Time `json:"gone,omitzero"`   // since when it is not found
	// What was last sent; what we want is compared with it.
	Title string `json:"title"`
	Desc  string `json:"desc"`
	Tag   string `json:"tag"`
	Cover string `json:"cover,omitempty"` // the one that a person wanted; "": that of the creation
}

type entry struct {
	Seq  uint32 `json:"seq"`
	File string `json:"file"`
}

func (s *sub) has(seq uint32) bool {
	return slices.ContainsFunc(s.Parts, func(e entry) bool { return e.Seq == seq })
}

// with are the parts of s when it shows want. One that is being sent again is not among want, and its old name stays: it
// says which place is its own.
func (s *sub) with(want []segment.Delivery) []entry {
	out := entries(want)
	for _, e := range s.Parts {
		if !slices.ContainsFunc(want, func(d segment.Delivery) bool { return d.Segment.ID.Seq == e.Seq }) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

// try is an attempt to make a submission of which nobody knows what became.
type try struct {
	At    time.Time `json:"at"`
	Parts []entry   `json:"parts"`
	Count int       `json:"count"` // attempts
	Taken bool      `json:"taken"` // the remote said that a part stands in a submission already
	Title string    `json:"title"`
	Desc  string    `json:"desc"`
	Tag   string    `json:"tag"`
	Cover string    `json:"cover,omitempty"`
}

func readNote(token string) (note, error) {
	var n note
	if token == "" {
		return n, nil
	}
	if err := json.Unmarshal([]byte(token), &n); err != nil {
		return n, fmt.Errorf("read the note about submissions: %w", err)
	}
	return n, nil
}

// job is one call of Submit or Look.
type job struct {
	p      *Publisher
	client *bilibili.Client
	gov    *bilibili.Governor
	list   control.List
	note   note
}

// save makes the note durable.
func (j *job) save(ctx context.Context) error {
	b, err := json.Marshal(j.note)
	if err != nil {
		return fmt.Errorf("write the note about submissions: %w", err)
	}
	// What has happened is worth a moment even when everything is to stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return j.list.Name(ctx, string(b))
}

// begin makes a job, unless the login is known to be dead.
func (p *Publisher) begin(l control.List) (*job, error) {
	client, gov, err := p.cfg.Account()
	if err != nil {
		return nil, err
	}
	now := client.Account().Credentials()
	p.mu.Lock()
	refused := p.deadErr
	if p.dead != now || time.Since(p.deadAt) >= reask {
		refused = nil
	}
	p.mu.Unlock()
	if refused != nil {
		return nil, refused
	}
	n, err := readNote(l.Token)
	if err != nil {
		return nil, &failure.Error{Op: "submit " + l.Session.Name, Kind: failure.NeedsHuman, Err: err, Hint: "The ledger is damaged."}
	}
	return &job{p: p, client: client, gov: gov, list: l, note: n}, nil
}

// end remembers a login that was refused.
func (j *job) end(err error) error {
	switch bilibili.CodeOf(err) {
	case -101, -111, -663:
		j.p.mu.Lock()
		j.p.dead, j.p.deadErr, j.p.deadAt = j.client.Account().Credentials(), err, time.Now()
		j.p.mu.Unlock()
		if j.p.cfg.Refused != nil {
			j.p.cfg.Refused()
		}
		return err // looked at every few seconds: only a new cookie file makes another call
	}
	if f, ok := errors.AsType[*failure.Error](err); ok && f.RetryAfter == 0 && (f.Kind == failure.NeedsHuman || f.Kind == failure.Permanent) {
		f.RetryAfter = time.Minute
	}
	return err
}

// Submit brings the submissions of a session to what they shall show.
func (p *Publisher) Submit(ctx context.Context, l control.List) error {
	j, err := p.begin(l)
	if err != nil {
		return err
	}
	return j.end(j.gov.Write(ctx, j.submit))
}

func (j *job) op(what string) string { return what + " the submission of " + j.list.Session.Name }

func (j *job) submit(ctx context.Context) error {
	if len(j.list.Parts) == 0 {
		return nil
	}
	for _, d := range j.list.Parts {
		if d.Receipt.Tag == "" {
			return &failure.Error{Op: j.op("set"), Kind: failure.Permanent, Code: fmt.Sprintf("part %d has no file name", d.Segment.ID.Seq)}
		}
	}
	if j.note.Try != nil {
		if err := j.resolve(ctx); err != nil {
			return err
		}
	}
	before := len(j.note.Subs)
	for i := 0; ; {
		want, made := j.group(i)
		switch {
		case len(want) == 0 && !made:
			return j.link(ctx, before)
		case !made:
			if err := j.create(ctx, want); err != nil {
				return err
			}
			continue // one call may not have brought all of them
		case j.note.Subs[i].Lost != "" && j.p.cfg.Continue: // it stays as it is
		default:
			if err := j.edit(ctx, i, want); err != nil {
				return err
			}
		}
		i++
	}
}

// link has the others name those that were made since there were so many.
func (j *job) link(ctx context.Context, before int) error {
	if len(j.note.Subs) == before {
		return nil
	}
	for i := range len(j.note.Subs) - 1 {
		if j.note.Subs[i].Lost != "" && j.p.cfg.Continue {
			continue
		}
		want, _ := j.group(i)
		if err := j.edit(ctx, i, want); err != nil {
			return err
		}
	}
	return nil
}

// group lists the parts that submission i shall show, by Seq, and whether it is there. Parts that stand in a submission
// stay there; later ones follow in the newest until it is full.
func (j *job) group(i int) (want []segment.Delivery, made bool) {
	made = i < len(j.note.Subs)
	last := len(j.note.Subs) - 1
	open := last >= 0 && j.note.Subs[last].Lost == ""
	room := j.p.cfg.Parts
	if open {
		room -= len(j.note.Subs[last].Parts)
	}
	taken := 0
	for _, d := range j.list.Parts {
		seq := d.Segment.ID.Seq
		at := slices.IndexFunc(j.note.Subs, func(s sub) bool { return s.has(seq) })
		if at < 0 {
			switch {
			case open && taken < room:
				at = last
				taken++
			default:
				at = last + 1
				if i == at && len(want) == j.p.cfg.Parts {
					continue // of the one after that
				}
			}
		}
		if at == i {
			want = append(want, d)
		}
	}
	return want, made
}

func entries(ds []segment.Delivery) []entry {
	out := make([]entry, len(ds))
	for i, d := range ds {
		out[i] = entry{d.Segment.ID.Seq, d.Receipt.Tag}
	}
	return out
}

// texts are what submission i of the session shall say.
type texts struct{ title, desc, tag, source, dynamic, cover string }

func (j *job) texts(i int) texts {
	s := j.list.Session
	f := naming.Facts{Site: s.Room.Site, Room: s.Room.Name, Streamer: s.Streamer, Title: s.Title, At: s.Started.In(j.p.cfg.Zone)}
	c := j.p.cfg
	told, title := j.note.Told, c.Title
	if c.TitleOf != nil {
		if own, ok := c.TitleOf(s.Room); ok {
			title = own
		}
	}
	t := texts{title: cmp.Or(told.Title, title.Text(f)), desc: cmp.Or(told.Desc, c.Desc.Text(f)), source: clip(c.Source.Text(f), 200),
		dynamic: clip(c.Dynamic.Text(f), 233), cover: told.Cover}
	var tags []string
	for w := range strings.FieldsFuncSeq(cmp.Or(told.Tag, c.Tag.Text(f)), func(r rune) bool { return r == ',' || r == '，' }) {
		if w = clip(strings.TrimSpace(w), 20); w != "" && !slices.Contains(tags, w) && len(tags) < 10 {
			tags = append(tags, w)
		}
	}
	t.tag = strings.Join(tags, ",")
	if t.title == "" && len(j.note.Subs) > 0 {
		t.title = j.note.Subs[0].Title // who does not know the title, as resume, does not change it
	}
	if t.title == "" {
		t.title = naming.Line(s.Title)
	}
	if t.title == "" {
		t.title = f.At.Format("2006-01-02 15:04") + " " + naming.Line(s.Room.Name)
	}
	suffix := ""
	if i > 0 {
		suffix = fmt.Sprintf(" (%d)", i+1)
	}
	t.title = strings.TrimSpace(clip(t.title, maxTitle-utf8.RuneCountInString(suffix))) + suffix
	var links []string
	if i > 0 && i-1 < len(j.note.Subs) {
		links = append(links, "← https://www.bilibili.com/video/"+j.note.Subs[i-1].BVID)
	}
	if i+1 < len(j.note.Subs) {
		links = append(links, "→ https://www.bilibili.com/video/"+j.note.Subs[i+1].BVID)
	}
	if len(links) > 0 {
		link := strings.Join(links, "\n")
		t.desc = strings.TrimSpace(clip(t.desc, maxDesc-utf8.RuneCountInString(link)-1) + "\n" + link)
	}
	t.desc = clip(t.desc, maxDesc)
	return t
}

// clip cuts text to n characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}

// partTitle is what a part is called in the list.
func (j *job) partTitle(d segment.Delivery) string {
	s := d.Segment
	if s.Foreign {
		base := s.Path[strings.LastIndexByte(s.Path, '/')+1:]
		if name := naming.Line(strings.TrimSuffix(base, extension(base))); name != "" {
			return clip(name, maxTitle)
		}
	}
	return fmt.Sprintf("P%d %s", s.ID.Seq, s.Start.In(j.p.cfg.Zone).Format("2006-01-02 15:04:05"))
}

func extension(base string) string {
	if i := strings.LastIndexByte(base, '.'); i > 0 {
		return base[i:]
	}
	return ""
}

// definite reports whether a refusal of a creation says that nothing was made. A lost answer says nothing, and neither
// does a gateway (U 5.5).
func definite(err error) bool {
	code := bilibili.CodeOf(err)
	switch {
	case code == 0, code <= -500 && code > -600, code == 10009, code == 21012:
		return false
	}
	return true
}

// create makes a submission of the first parts of want.
func (j *job) create(ctx context.Context, want []segment.Delivery) error {
	if len(want) > maxNew {
		want = want[:maxNew]
	}
	t := j.texts(len(j.note.Subs))
	cover, err := j.coverURL(ctx, cmp.Or(t.cover, j.p.cfg.Cover))
	if err != nil {
		return err
	}
	payload := map[string]any{
		"videos": j.videos(want), "title": t.title, "copyright": j.p.cfg.Copyright, "tid": j.p.cfg.TID, "tag": t.tag, "desc": t.desc,
		"desc_format_id": 9999, "dynamic": t.dynamic, "no_reprint": 1, "recreate": -1, "no_disturbance": 0, "interactive": 0,
		"act_reserve_create": 0, "subtitle": map[string]any{"open": 0, "lan": ""}, "cover": cover,
	}
	if j.p.cfg.Copyright == 2 {
		payload["source"], payload["no_reprint"] = t.source, 0
	}
	if j.p.cfg.Private {
		payload["is_only_self"] = 1
	}
	if err := j.gov.Try(bilibili.Submission); err != nil {
		return err
	}
	count := 1
	if j.note.Try != nil {
		count += j.note.Try.Count
	}
	j.note.Try = &try{At: time.Now(), Parts: entries(want), Count: count, Title: t.title, Desc: t.desc, Tag: t.tag, Cover: t.cover}
	if err := j.save(ctx); err != nil {
		return err
	}
	var a struct {
		AID  int64  `json:"aid"`
		BVID string `json:"bvid"`
	}
	err = j.write(ctx, "make", payload, &a)
	if err == nil && a.AID == 0 {
		err = &failure.Error{Op: j.op("make"), Code: "the answer names no submission"}
	}
	if err != nil {
		if definite(err) {
			j.note.Try = nil
			return errors.Join(j.bad(err, want), j.save(ctx))
		}
		if code := bilibili.CodeOf(err); code == 10009 || code == 21012 {
			j.note.Try.Taken = true
			if serr := j.save(ctx); serr != nil {
				return serr
			}
			err = unknown(j.op("make"), err)
		}
		return err
	}
	j.made(a.AID, a.BVID)
	if err := j.save(ctx); err != nil {
		return err
	}
	j.p.cfg.Log.Info().Str("session", string(j.list.Session.ID)).Str("bvid", a.BVID).Int("parts", len(want)).Msg("submission made")
	return j.edit(ctx, len(j.note.Subs)-1, want) // it is asked whether it is there
}

// made takes the attempt over as a submission.
func (j *job) made(aid int64, bvid string) {
	t := j.note.Try
	j.note.Subs = append(j.note.Subs, sub{AID: aid, BVID: bvid, At: time.Now(), Parts: t.Parts, Title: t.Title, Desc: t.Desc, Tag: t.Tag, Cover: t.Cover})
	j.note.Try = nil
}

func unknown(op string, err error) error {
	return &failure.Error{Op: op, Kind: failure.Transient, Code: "it is not known whether it was made, the list is asked", Err: err}
}

// Edit notes what a person wants the submissions of a session to say.
func (p *Publisher) Edit(ctx context.Context, l control.List, f control.Facts) error {
	n, err := readNote(l.Token)
	if err != nil {
		return err
	}
	switch {
	case utf8.RuneCountInString(f.Title) > maxTitle:
		return fmt.Errorf("the title has %d characters, Bilibili takes %d", utf8.RuneCountInString(f.Title), maxTitle)
	case utf8.RuneCountInString(f.Desc) > maxDesc-200: // links of continuations follow it
		return fmt.Errorf("the description has %d characters, Bilibili takes %d", utf8.RuneCountInString(f.Desc), maxDesc-200)
	}
	n.Told = control.Facts{
		Title: cmp.Or(strings.TrimSpace(f.Title), n.Told.Title), Desc: cmp.Or(f.Desc, n.Told.Desc),
		Tag: cmp.Or(f.Tag, n.Told.Tag), Cover: cmp.Or(f.Cover, n.Told.Cover),
	}
	j := &job{p: p, list: l, note: n}
	return j.save(ctx)
}

// ways are the interfaces by which a submission is made and edited (U 5.1, 5.3).
var ways = map[string][2]string{
	"make": {"https://member.bilibili.com/x/vu/web/add/v3", "https://member.bilibili.com/x/vu/app/add"},
	"edit": {"https://member.bilibili.com/x/vu/web/edit", "https://member.bilibili.com/x/vu/app/edit/full"},
}

// appQuery is what the app sends beside its token and its signature (U 5.1).
func appQuery() url.Values {
	return url.Values{
		"build": {"7800300"}, "c_locale": {"zh-Hans_CN"}, "channel": {"bili"}, "disable_rcmd": {"0"}, "mobi_app": {"android"}, "platform": {"android"},
		"s_locale": {"zh-Hans_CN"}, "statistics": {`"appId":1,"platform":3,"version":"7.80.0","abtest":""`},
	}
}

// write makes or edits a submission, by the one way or by the other. The governor hears of the refusal of the last one
// only, so that an account waits when no way is left.
func (j *job) write(ctx context.Context, what string, payload map[string]any, out any) error {
	j.p.mu.Lock()
	app := j.p.app
	j.p.mu.Unlock()
	token := j.client.Account().Credentials().HasToken()
	app = app && token
	err := j.send(ctx, what, app, payload, out)
	if token && bilibili.OtherWay(err) {
		j.p.cfg.Log.Info().Err(err).Bool("app", app).Msg("one way to submit is refused, the other one is tried")
		app = !app
		err = j.send(ctx, what, app, payload, out)
	}
	if !bilibili.OtherWay(err) { // it may have been asked too soon after the first: next time it is the first
		j.p.mu.Lock()
		j.p.app = app
		j.p.mu.Unlock()
	}
	return j.gov.Report(bilibili.Submission, err)
}

func (j *job) send(ctx context.Context, what string, app bool, payload map[string]any, out any) error {
	c := bilibili.Call{Op: j.op(what), Method: http.MethodPost, URL: ways[what][0], Query: stamp(), JSON: payload,
		As: bilibili.User, CSRF: bilibili.InQuery | bilibili.InJSON, Timeout: time.Minute}
	if app {
		c.URL, c.Query, c.As, c.CSRF = ways[what][1], appQuery(), bilibili.App, 0
	}
	return j.client.Do(ctx, c, out)
}

// bad makes the error of a call that refuses a part: 21015 names it by its place in the call (U 5.4).
func (j *job) bad(err error, want []segment.Delivery) error {
	if bilibili.CodeOf(err) != 21015 {
		return err
	}
	var n int
	if r, ok := errors.AsType[*bilibili.Refusal](err); ok {
		if i := strings.IndexFunc(r.Message, func(c rune) bool { return c >= '0' && c <= '9' }); i >= 0 {
			fmt.Sscanf(r.Message[i:], "%d", &n) // 0 if it is none
		}
	}
	if n < 1 || n > len(want) {
		return err
	}
	d := want[n-1]
	if d.State == segment.Verified {
		return err // its file may be gone
	}
	return &control.Bad{Seqs: []uint32{d.Segment.ID.Seq}, Err: err}
}

// videos are new parts as a call names them.
func (j *job) videos(ds []segment.Delivery) []map[string]any {
	out := make([]map[string]any, len(ds))
	for i, d := range ds {
		out[i] = map[string]any{"title": j.partTitle(d), "filename": d.Receipt.Tag, "desc": ""}
	}
	return out
}

// resolve finds out what became of an attempt. Nil: it is known now, or patience is over and another may be made.
func (j *job) resolve(ctx context.Context) error {
	t := j.note.Try
	aid, bvid, err := j.find(ctx, t)
	if err != nil {
		return err
	}
	switch {
	case aid != 0:
		j.p.cfg.Log.Info().Str("session", string(j.list.Session.ID)).Str("bvid", bvid).Msg("submission found, the answer to its making was lost")
		j.made(aid, bvid)
		return j.save(ctx)
	case time.Since(t.At) < patience:
		return unknown(j.op("make"), nil)
	case t.Taken && t.Count > 1:
		return &failure.Error{Op: j.op("make"), Kind: failure.NeedsHuman, Code: "Bilibili says that the video stands in a submission, and lists none",
			RetryAfter: held, Hint: "Look at https://member.bilibili.com/platform/upload-manager/article: if it is there, it is found by itself."}
	}
	return nil
}
