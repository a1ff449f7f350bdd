package submission

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
)

// view is the answer of archive/view (U 5.3), as far as it is used. Archive is re-sent field by field.
type view struct {
	Archive   map[string]json.RawMessage `json:"archive"`
	Videos    []video                    `json:"videos"`
	Watermark struct {
		State int `json:"state"`
	} `json:"watermark"`
	Quiet *int `json:"no_disturbance"`
}

type video struct {
	Title    string  `json:"title"`
	Desc     string  `json:"desc"`
	File     string  `json:"filename"`
	CID      int64   `json:"cid"`
	Duration float64 `json:"duration"` // seconds
	Status   int     `json:"status"`
	Why      string  `json:"status_desc"`
	Reject   string  `json:"reject_reason"`
	Fail     int     `json:"fail_code"`
	FailDesc string  `json:"fail_desc"`
	Xcode    int     `json:"xcode_state"`
	CTime    int64   `json:"ctime"`
}

func (v *view) number(key string) int64 {
	n, _ := strconv.ParseInt(strings.Trim(string(v.Archive[key]), `" `), 10, 64) // absent: 0
	return n
}

func (v *view) text(key string) string {
	var s string
	_ = json.Unmarshal(v.Archive[key], &s) // absent or null: empty
	return s
}

// stamp is the query that every write carries.
func stamp() url.Values { return url.Values{"t": {strconv.FormatInt(time.Now().UnixMilli(), 10)}} }

// see fetches a submission.
func (j *job) see(ctx context.Context, aid int64) (*view, error) {
	if err := j.gov.Try(bilibili.Question); err != nil {
		return nil, err
	}
	v := &view{}
	err := j.client.Do(ctx, bilibili.Call{
		Op: j.op("fetch"), URL: "https://member.bilibili.com/x/vupre/web/archive/view",
		Query: url.Values{"aid": {strconv.FormatInt(aid, 10)}, "topic_grey": {"1"}}, As: bilibili.User,
	}, v)
	if err = j.gov.Report(bilibili.Question, err); err != nil {
		if bilibili.CodeOf(err) == -404 {
			r, _ := errors.AsType[*bilibili.Refusal](err)
			err = &failure.Error{Op: j.op("fetch"), Kind: failure.Transient, Code: "it is not shown", Err: r}
		}
		return nil, err
	}
	if v.number("aid") != aid {
		return nil, &failure.Error{Op: j.op("fetch"), Code: "the answer is about another submission, or about none"}
	}
	return v, nil
}

// lost says why a submission takes no parts any more, "" if it does or if nobody knows. That it is not found is believed
// when it is said for some time, and not of one that was just made.
func (s *sub) lost(v *view, err error) string {
	if err != nil {
		if bilibili.CodeOf(err) != -404 || time.Since(s.At) < patience {
			return ""
		}
		if s.Gone.IsZero() {
			s.Gone = time.Now()
		}
		if time.Since(s.Gone) >= gone {
			return "it does not exist any more"
		}
		return ""
	}
	s.Gone = time.Time{}
	switch v.number("state") {
	case -2:
		return "it was rejected: " + v.text("reject_reason")
	case -3, -4, -5:
		return "it is locked: " + v.text("reject_reason")
	case -100, -14:
		return "it was deleted"
	}
	return ""
}

// abandon deals with a lost submission. What it does not prove has to go elsewhere, or waits for a person.
func (j *job) abandon(ctx context.Context, i int, why string) (again []uint32, err error) {
	s := &j.note.Subs[i]
	if !j.p.cfg.Continue {
		return nil, &failure.Error{Op: j.op("use"), Kind: failure.NeedsHuman, Code: s.BVID + ": " + why, RetryAfter: held,
			Hint: "Put it right at https://member.bilibili.com/platform/upload-manager/article, or set lost=continue so that another submission follows. What is not proven stays on the disk."}
	}
	s.Lost = why
	s.Parts = slices.DeleteFunc(s.Parts, func(e entry) bool {
		k := slices.IndexFunc(j.list.Parts, func(d segment.Delivery) bool { return d.Segment.ID.Seq == e.Seq })
		if k >= 0 && j.list.Parts[k].State != segment.Verified {
			again = append(again, e.Seq)
			return true
		}
		return false
	})
	j.p.cfg.Log.Warn().Str("session", string(j.list.Session.ID)).Str("bvid", s.BVID).Str("why", why).Msg("submission is lost, another one follows")
	return again, j.save(ctx)
}

// edit brings submission i to show want.
func (j *job) edit(ctx context.Context, i int, want []segment.Delivery) error {
	s := &j.note.Subs[i]
	t := j.texts(i)
	if s.Sure && s.Title == t.title && s.Desc == t.desc && s.Tag == t.tag && s.Cover == t.cover && slices.Equal(s.Parts, s.with(want)) {
		return nil
	}
	v, err := j.see(ctx, s.AID)
	if why := s.lost(v, err); why != "" {
		again, err := j.abandon(ctx, i, why)
		switch {
		case err != nil:
			return err
		case len(again) > 0:
			return &control.Bad{Seqs: again, Err: &failure.Error{Op: j.op("use"), Code: s.BVID + ": " + why}}
		}
		return nil // the next group takes what is not in it
	}
	if err != nil {
		return errors.Join(err, j.save(ctx)) // since when it is gone
	}
	videos, changed, added := j.merge(v, s, want)
	payload, err := j.payload(ctx, v, s, t)
	if err != nil {
		return err
	}
	if payload == nil && !changed {
		return j.sure(ctx, s, t, want)
	}
	if payload == nil {
		payload = j.fields(v)
	}
	payload["videos"] = videos
	if err := j.gov.Try(bilibili.Submission); err != nil {
		return err
	}
	if s.try(want) {
		if err := j.save(ctx); err != nil {
			return err
		}
	}
	if err := j.write(ctx, "edit", payload, nil); err != nil {
		if bilibili.CodeOf(err) == 21015 {
			return j.bad(err, j.byPlace(videos, want))
		}
		return err // what was sent is asked for before it is sent again
	}
	s.Title, s.Desc, s.Tag, s.Cover, s.Sure = t.title, t.desc, t.tag, t.cover, false
	if err := j.save(ctx); err != nil {
		return err
	}
	// Ask anew whether it shows what was sent.
	if v, err = j.see(ctx, s.AID); err != nil {
		return err
	}
	if _, changed, _ := j.merge(v, s, want[:min(len(want), len(want)-added.left)]); changed {
		return &failure.Error{Op: j.op("edit"), Code: "the list does not show it yet"}
	}
	if added.left > 0 { // more than one call may bring
		s.Parts = s.with(want[:len(want)-added.left])
		if err := j.save(ctx); err != nil {
			return err
		}
		return j.edit(ctx, i, want)
	}
	return j.sure(ctx, s, t, want)
}

// try notes which names an edit is about to put into a submission, and reports whether there is one that it did not know:
// its answer may be lost, and the part sent again under another name before anybody sees that this one is there.
func (s *sub) try(want []segment.Delivery) (learnt bool) {
	for _, e := range entries(want) {
		if !slices.Contains(s.Parts, e) && !slices.Contains(s.Tried, e) {
			s.Tried = append(s.Tried, e)
			learnt = true
		}
	}
	return learnt
}

// sure notes that a submission was seen to show want.
func (j *job) sure(ctx context.Context, s *sub, t texts, want []segment.Delivery) error {
	s.Sure, s.Parts, s.Tried, s.Lost = true, s.with(want), nil, ""
	s.Title, s.Desc, s.Tag, s.Cover = t.title, t.desc, t.tag, t.cover
	return j.save(ctx)
}

// byPlace lists the parts of a call in its order, so that a place in it names a part. Foreign ones are empty.
func (j *job) byPlace(videos []map[string]any, want []segment.Delivery) []segment.Delivery {
	out := make([]segment.Delivery, len(videos))
	for i, v := range videos {
		k := slices.IndexFunc(want, func(d segment.Delivery) bool { return d.Receipt.Tag == v["filename"] })
		if k >= 0 {
			out[i] = want[k]
		} else {
			out[i].State = segment.Verified
		}
	}
	return out
}

// additions is how many parts a list gains, and how many did not find room in one call.
type additions struct{ n, left int }

// merge makes the list of a call out of what was fetched and what is wanted. Everything that was fetched stays in its
// order; a part that was sent again takes the place of what it was before; what is missing goes before the first of ours
// with a higher number, or to the end. Old parts carry their cid.
func (j *job) merge(v *view, s *sub, want []segment.Delivery) (list []map[string]any, changed bool, added additions) {
	type place struct {
		seq uint32 // 0: not ours
		v   map[string]any
	}
	byFile, before := map[string]uint32{}, map[string]uint32{}
	for _, d := range want {
		byFile[d.Receipt.Tag] = d.Segment.ID.Seq
	}
	for _, e := range slices.Concat(s.Parts, s.Tried) {
		before[e.File] = e.Seq
	}
	there := map[uint32]bool{}
	for _, o := range v.Videos {
		if seq, ok := byFile[o.File]; ok {
			there[seq] = true
		}
	}
	fresh := func(d segment.Delivery) map[string]any { return j.videos([]segment.Delivery{d})[0] }
	var out []place
	for _, o := range v.Videos {
		seq := byFile[o.File]
		if old := before[o.File]; seq == 0 && old != 0 {
			// One of ours under an earlier name.
			k := slices.IndexFunc(want, func(d segment.Delivery) bool { return d.Segment.ID.Seq == old })
			if k >= 0 && !there[old] && added.n < maxNew {
				there[old] = true
				out = append(out, place{old, fresh(want[k])})
				added.n++
				changed = true
				continue
			}
			if k >= 0 && there[old] {
				changed = true // its successor is here: the failed one goes
				continue
			}
		}
		out = append(out, place{seq, map[string]any{"title": o.Title, "desc": o.Desc, "filename": o.File, "cid": o.CID}})
	}
	for k, d := range want {
		seq := d.Segment.ID.Seq
		if there[seq] {
			continue
		}
		if added.n == maxNew {
			added.left = len(want) - k
			break
		}
		at := slices.IndexFunc(out, func(p place) bool { return p.seq > seq })
		if at < 0 {
			at = len(out)
		}
		out = slices.Insert(out, at, place{seq, fresh(d)})
		added.n++
		changed = true
	}
	// Ours in order: somebody may have moved them by hand, and a list that was once out of order stays so otherwise.
	var last uint32
	sorted := true
	for _, p := range out {
		if p.seq != 0 {
			sorted = sorted && p.seq > last
			last = p.seq
		}
	}
	if !sorted {
		var ours []place
		for _, p := range out {
			if p.seq != 0 {
				ours = append(ours, p)
			}
		}
		slices.SortStableFunc(ours, func(a, b place) int { return int(a.seq) - int(b.seq) })
		for i, p := range out {
			if p.seq != 0 {
				out[i], ours = ours[0], ours[1:]
			}
		}
		changed = true
	}
	for _, p := range out {
		list = append(list, p.v)
	}
	return list, changed, added
}

// resent are the fields of a submission that an edit repeats as they were fetched (U 5.2, 5.3). Others are read-only or
// break the call.
var resent = []string{
	"title", "copyright", "source", "tid", "tag", "desc", "desc_format_id", "desc_v2", "dynamic", "cover", "no_reprint", "interactive",
	"mission_id", "topic_id", "charging_pay", "is_360", "lossless_music", "dolby", "neutral_mark", "dtime",
}

// fields are those of a fetched submission, as an edit has to repeat them.
func (j *job) fields(v *view) map[string]any {
	p := map[string]any{"aid": v.number("aid"), "subtitle": map[string]any{"open": 0, "lan": ""}, "watermark": map[string]any{"state": v.Watermark.State}}
	for _, k := range resent {
		raw := string(v.Archive[k])
		switch raw {
		case "", "null":
			continue
		case "0":
			switch k {
			case "mission_id", "topic_id", "dtime":
				continue // none
			}
		case `""`:
			switch k {
			case "neutral_mark", "source":
				continue
			}
		}
		p[k] = v.Archive[k]
	}
	if _, ok := p["dynamic"]; !ok {
		p["dynamic"] = ""
	}
	if v.Quiet != nil {
		p["no_disturbance"] = *v.Quiet
	}
	if j.p.cfg.Private || v.number("state") == -50 || v.number("is_only_self") == 1 {
		p["is_only_self"] = 1
	}
	return p
}

// payload is an edit of the texts that we want otherwise than we last said; nil: there is none.
func (j *job) payload(ctx context.Context, v *view, s *sub, t texts) (map[string]any, error) {
	set := map[string]string{}
	for _, x := range []struct{ key, want, sent string }{{"title", t.title, s.Title}, {"desc", t.desc, s.Desc}, {"tag", t.tag, s.Tag}} {
		if x.want != x.sent && x.want != v.text(x.key) {
			set[x.key] = x.want
		}
	}
	if t.cover != s.Cover {
		cover, err := j.coverURL(ctx, t.cover)
		if err != nil {
			return nil, err
		}
		if cover != "" && cover != v.text("cover") {
			set["cover"] = cover
		}
	}
	if len(set) == 0 {
		return nil, nil
	}
	p := j.fields(v)
	for k, w := range set {
		p[k] = w
		if k == "desc" {
			delete(p, "desc_v2") // it has to say the same
		}
	}
	return p, nil
}

// find looks for the submission that an attempt made, by the file names of its parts.
func (j *job) find(ctx context.Context, t *try) (aid int64, bvid string, err error) {
	ours := func(file string) bool {
		return slices.ContainsFunc(t.Parts, func(e entry) bool { return e.File == file })
	}
	for page := 1; page <= 5; page++ {
		if err := j.gov.Try(bilibili.Question); err != nil {
			return 0, "", err
		}
		var a struct {
			Audits []struct {
				Archive struct {
					AID   int64  `json:"aid"`
					BVID  string `json:"bvid"`
					CTime int64  `json:"ctime"`
				} `json:"Archive"`
				Videos []video `json:"Videos"`
			} `json:"arc_audits"`
			Page struct {
				Count int `json:"count"`
			} `json:"page"`
		}
		err := j.client.Do(ctx, bilibili.Call{
			Op: "list the submissions", URL: "https://member.bilibili.com/x/web/archives", As: bilibili.User,
			Query: url.Values{"status": {"is_pubing,pubed,not_pubed"}, "pn": {strconv.Itoa(page)}, "ps": {"20"}, "coop": {"1"}, "interactive": {"1"}},
		}, &a)
		if err = j.gov.Report(bilibili.Question, err); err != nil {
			return 0, "", err
		}
		older := false
		for _, x := range a.Audits {
			if slices.ContainsFunc(j.note.Subs, func(s sub) bool { return s.AID == x.Archive.AID }) {
				continue
			}
			if x.Archive.CTime != 0 && time.Unix(x.Archive.CTime, 0).Before(t.At.Add(-24*time.Hour)) {
				older = true // the clocks may differ, but not by that
				continue
			}
			if slices.ContainsFunc(x.Videos, func(v video) bool { return ours(v.File) }) {
				return x.Archive.AID, x.Archive.BVID, nil
			}
			v, err := j.see(ctx, x.Archive.AID)
			if err != nil {
				if bilibili.CodeOf(err) == -404 {
					continue
				}
				return 0, "", err
			}
			if slices.ContainsFunc(v.Videos, func(v video) bool { return ours(v.File) }) {
				return x.Archive.AID, x.Archive.BVID, nil
			}
		}
		if older || len(a.Audits) < 20 {
			break
		}
	}
	return 0, "", nil
}

// maxCover is how large a picture is sent (U 5.6).
const maxCover = 2 << 20

// coverURL is the address of a cover. A file is sent once per process.
func (j *job) coverURL(ctx context.Context, c string) (string, error) {
	if c == "" || strings.HasPrefix(c, "http://") || strings.HasPrefix(c, "https://") {
		return c, nil
	}
	j.p.mu.Lock()
	known := j.p.covers[c]
	j.p.mu.Unlock()
	if known != "" {
		return known, nil
	}
	b, err := os.ReadFile(c)
	if err == nil && len(b) > maxCover {
		err = fmt.Errorf("it has %d bytes, more than %d", len(b), maxCover)
	}
	if err != nil {
		// A picture is no reason to keep a broadcast from being shown.
		j.p.cfg.Log.Warn().Err(err).Str("cover", c).Msg("the cover cannot be used, a frame is taken instead")
		return "", nil
	}
	var a struct {
		URL string `json:"url"`
	}
	err = j.client.Do(ctx, bilibili.Call{
		Op: "send the cover", Method: http.MethodPost, URL: "https://member.bilibili.com/x/vu/web/cover/up", Query: stamp(),
		Form: url.Values{"cover": {"data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(b)}},
		As:   bilibili.User, CSRF: bilibili.InForm, Timeout: 30 * time.Second,
	}, &a)
	if err != nil {
		return "", err
	}
	j.p.mu.Lock()
	j.p.covers[c] = a.URL
	j.p.mu.Unlock()
	return a.URL, nil
}

// Look asks what became of the parts that are not proven.
func (p *Publisher) Look(ctx context.Context, l control.List) (control.Sight, error) {
	j, err := p.begin(l)
	if err != nil {
		return control.Sight{}, err
	}
	s, err := j.look(ctx)
	return s, j.end(err)
}

// Ask asks what the submissions of l show now of all its parts, the proven ones among them. It changes nothing. A part
// that is not in the answer is not shown as it should be: why says what was seen.
func (p *Publisher) Ask(ctx context.Context, l control.List) (proofs map[uint32]segment.Proof, why map[uint32]string, err error) {
	j, err := p.begin(l)
	if err != nil {
		return nil, nil, err
	}
	proofs, why = map[uint32]segment.Proof{}, map[uint32]string{}
	for i := range j.note.Subs {
		s := &j.note.Subs[i]
		v, err := j.see(ctx, s.AID)
		if bilibili.CodeOf(err) == -404 {
			v, err = &view{}, nil // nobody is shown anything
		}
		if err != nil {
			return nil, nil, j.end(err)
		}
		for _, d := range l.Parts {
			seq := d.Segment.ID.Seq
			if !s.has(seq) {
				continue
			}
			k := slices.IndexFunc(v.Videos, func(x video) bool { return x.File == d.Receipt.Tag })
			if k < 0 {
				why[seq] = s.BVID + " does not show it"
				continue
			}
			if how, bad := judge(v, v.Videos[k], d, p.cfg.Release); how != "" {
				proofs[seq] = j.proof(s, &v.Videos[k], d, how)
			} else {
				why[seq] = s.BVID + ": " + cmp.Or(bad, v.Videos[k].Why, "its transcode is not through")
			}
		}
	}
	return proofs, why, nil
}

func (j *job) proof(s *sub, x *video, d segment.Delivery, how string) segment.Proof {
	if d.Instead.Path != "" {
		how += ", as a repaired copy"
	}
	return segment.Proof{Size: d.Segment.Size, Sum: "cid:" + strconv.FormatInt(x.CID, 10), How: how + " in " + s.BVID, At: time.Now()}
}

func (j *job) look(ctx context.Context) (control.Sight, error) {
	sight := control.Sight{Proven: map[uint32]segment.Proof{}, Bad: map[uint32]string{}, Broken: map[uint32]string{}}
	learnt := false
	var errs []error
	for i := range j.note.Subs {
		s := &j.note.Subs[i]
		var open []segment.Delivery
		for _, d := range j.list.Parts {
			if d.State != segment.Verified && s.has(d.Segment.ID.Seq) {
				open = append(open, d)
			}
		}
		if len(open) == 0 {
			continue
		}
		v, err := j.see(ctx, s.AID)
		if why := s.lost(v, err); why != "" {
			again, err := j.abandon(ctx, i, why)
			errs = append(errs, err)
			for _, seq := range again {
				sight.Bad[seq] = s.BVID + ": " + why
			}
			continue
		}
		if err != nil {
			errs = append(errs, err, j.save(ctx)) // since when it is gone
			continue
		}
		for _, d := range open {
			seq := d.Segment.ID.Seq
			k := slices.IndexFunc(v.Videos, func(x video) bool { return x.File == d.Receipt.Tag })
			if k < 0 {
				sight.Wait = fmt.Sprintf("part %d is not listed", seq)
				continue
			}
			switch how, bad := judge(v, v.Videos[k], d, j.p.cfg.Release); {
			case bad != "":
				// By name, so that a crash before it is sent again does not make two failures of one.
				if !slices.Contains(j.note.Failed[seq], d.Receipt.Tag) {
					if j.note.Failed == nil {
						j.note.Failed = map[uint32][]string{}
					}
					j.note.Failed[seq] = append(j.note.Failed[seq], d.Receipt.Tag)
					learnt = true
				}
				if len(j.note.Failed[seq]) >= tries {
					errs = append(errs, &failure.Error{Op: j.op("prove part " + strconv.Itoa(int(seq)) + " of"), Kind: failure.NeedsHuman, Code: bad, RetryAfter: held,
						Hint: "It was sent twice, repaired the second time if there was anything to repair (`liverec repair` says what). Replace it by hand; it stays on the disk."})
					continue
				}
				sight.Broken[seq] = bad
			case how != "":
				sight.Proven[seq] = j.proof(s, &v.Videos[k], d, how)
			default:
				sight.Wait = fmt.Sprintf("part %d: %s", seq, v.Videos[k].Why)
			}
		}
	}
	if learnt {
		errs = append(errs, j.save(ctx))
	}
	return sight, errors.Join(errs...)
}

// judge says what is proven of a part, or that it has to be sent again; two empty words: wait (U 6.3, 6.4).
func judge(v *view, x video, d segment.Delivery, r Release) (how, bad string) {
	if x.Fail != 0 || x.Xcode == 1 || x.Xcode == 3 || x.Status == -16 {
		why := x.FailDesc
		if why == "" {
			why = x.Why
		}
		return "", strings.TrimSpace(fmt.Sprintf("the transcode failed (status %d, fail code %d, stage %d) %s", x.Status, x.Fail, x.Xcode, why))
	}
	switch x.Status {
	case -2, -3, -4, -5, -100:
		return "", "" // for the reviewers, or for a person
	}
	local := d.Segment.Duration.Seconds()
	diff := x.Duration - local
	if diff < 0 {
		diff = -diff
	}
	right := local == 0 || x.Duration > 0 && diff < max(2, local/100)
	done := x.Xcode == 6 || x.Xcode == 2 && x.Status == 0 && x.CTime > 0 && time.Since(time.Unix(x.CTime, 0)) > settled
	if !right {
		if done {
			return "", fmt.Sprintf("it plays %.0f s there and %.0f s here", x.Duration, local)
		}
		return "", ""
	}
	switch state := v.number("state"); {
	case r == Listed:
		return "listed with its duration", ""
	case r == Transcoded && done:
		return "listed with its duration, transcoded", ""
	case r == Published && done && (state == 0 || state == 1 || state == -40 || state == -50) && x.Status == 0:
		return "published with its duration, transcoded", ""
	}
	return "", ""
}
