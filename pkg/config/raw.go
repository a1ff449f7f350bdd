package config

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// rawFile is the shape of the file, and what its JSON schema is made from. A nil field stands nowhere.
type rawFile struct {
	Listen     *string `toml:"listen" jsonschema:"default=127.0.0.1:8420" jsonschema_description:"Address of the page, the API and the metrics. Any address but loopback needs web.password-file."`
	Data       *string `toml:"data" jsonschema:"minLength=1" jsonschema_description:"Folder for the ledger and for media that is not safe elsewhere yet. Relative paths start from the folder of this file."`
	Timezone   *string `toml:"timezone" jsonschema:"example=Asia/Shanghai" jsonschema_description:"Time zone of names, titles, windows and timetables; that of the machine if it is left out."`
	LogLevel   *string `toml:"log-level" jsonschema:"enum=trace,enum=debug,enum=info,enum=warn,enum=error"`
	LogFormat  *string `toml:"log-format" jsonschema:"enum=text,enum=json"`
	Uploads    *int64  `toml:"uploads" jsonschema:"minimum=1,maximum=64,default=3" jsonschema_description:"Most chunks in flight per target."`
	LimitRate  *string `toml:"limit-rate" jsonschema:"example=20M,example=08:00\\,20M 23:00\\,off" jsonschema_description:"Upload limit in bit/s, or a timetable."`
	Keep       *string `toml:"keep" jsonschema_description:"How long a part stays on the local disk after it is safe: 0s, or 24h with submissions, unless it is said here."`
	MinFree    *string `toml:"min-free" jsonschema_description:"Below it safe parts are freed at once and an alert is given: 20GiB, at most a tenth of the disk, unless it is said here."`
	StopFree   *string `toml:"stop-free" jsonschema:"default=1GiB" jsonschema_description:"Below it recording pauses, the least important room first, until twice that is free."`
	StopGrace  *string `toml:"stop-grace" jsonschema:"default=20s" jsonschema_description:"How long a stop waits for uploads in flight."`
	AcceptCopy *bool   `toml:"accept-copy" jsonschema_description:"After the ledger was found damaged: go on with what its newest good copy knows."`
	Cookies    *string `toml:"bilibili-cookies" jsonschema:"minLength=1" jsonschema_description:"Cookie file of an account: qualities above 720p need a login."`

	Web      *rawWeb              `toml:"web"`
	Target   map[string]rawTarget `toml:"target" jsonschema_description:"Places for copies, by the name that rooms call them. None at all: the folder liverec-archive beside this file."`
	Defaults *rawDefaults         `toml:"defaults" jsonschema_description:"What holds for every room that does not say otherwise."`
	Room     []rawRoom            `toml:"room"`
	Notify   []rawNotify          `toml:"notify"`
	Hook     []rawHook            `toml:"hook"`
}

type rawWeb struct {
	PasswordFile *string `toml:"password-file" jsonschema:"minLength=1" jsonschema_description:"File whose first line is the password of the page."`
	TLSCert      *string `toml:"tls-cert" jsonschema:"minLength=1" jsonschema_description:"Certificate chain (PEM); then the page speaks HTTPS."`
	TLSKey       *string `toml:"tls-key" jsonschema:"minLength=1" jsonschema_description:"Key of the certificate (PEM)."`
}

type rawTarget struct {
	To *string `toml:"to" jsonschema:"required,minLength=1" jsonschema_description:"A folder, file:PATH, s3://BUCKET/PREFIX?endpoint=URL, bilibili:?cookies=FILE …; with required=false a copy that nothing waits for."`
}

// rawShared is what a room and the defaults can both say.
type rawShared struct {
	To        *[]string `toml:"to" jsonschema:"minItems=1" jsonschema_description:"Names of targets."`
	Segment   *string   `toml:"segment" jsonschema:"default=15m" jsonschema_description:"Media time of a part."`
	MaxSize   *string   `toml:"max-size" jsonschema:"default=4GiB" jsonschema_description:"A part never grows beyond it."`
	Quality   *string   `toml:"quality" jsonschema:"default=auto,minLength=1" jsonschema_description:"best, worst, a height such as 720, a name that the room offers, or auto: the best that line and disk keep up with."`
	Container *string   `toml:"container" jsonschema:"enum=auto,enum=flv,enum=mp4,enum=ts,default=auto"`
	Ads       *string   `toml:"ads" jsonschema:"enum=skip,enum=keep,default=skip" jsonschema_description:"Whether stretches that a playlist marks as advertising are recorded."`
	Grace     *string   `toml:"grace" jsonschema:"default=60s" jsonschema_description:"How long a source may be away before the broadcast counts as ended."`
	Title     *string   `toml:"title" jsonschema:"default={title}" jsonschema_description:"Title of a submission; fields {site} {room} {streamer} {title} {date} {time}."`
	Codec     *string   `toml:"bilibili-codec" jsonschema:"enum=avc,enum=hevc,default=avc"`
	Allow     *string   `toml:"bilibili-allow-hosts" jsonschema_description:"Patterns of the only hosts that media is taken from, with commas."`
	Ban       *string   `toml:"bilibili-ban-hosts" jsonschema_description:"Patterns of hosts that no media is taken from, with commas."`
	Original  *bool     `toml:"bilibili-original" jsonschema_description:"Ask provincial HLS hosts for what the streamer sent."`
	Window    *string   `toml:"window" jsonschema:"example=18:00-02:00" jsonschema_description:"Record at these times of day only."`
	Skip      *[]string `toml:"skip-titles" jsonschema_description:"Broadcasts with one of these words in their title are not recorded; upper and lower case are the same."`
	Priority  *int64    `toml:"priority" jsonschema:"minimum=-1000,maximum=1000,default=0" jsonschema_description:"Rooms with a higher one are paused later when the disk runs short."`
}

type rawDefaults struct {
	rawShared
	Name *string `toml:"name" jsonschema:"default={room}/{date}_{time}_{title}" jsonschema_description:"Remote folder of a broadcast; same fields as title."`
}

type rawRoom struct {
	rawShared
	URL    *string `toml:"url" jsonschema:"required,minLength=1" jsonschema_description:"Address of the room."`
	Name   *string `toml:"name" jsonschema:"minLength=1" jsonschema_description:"What the room is called; made from the address if it is left out."`
	Folder *string `toml:"folder" jsonschema:"minLength=1" jsonschema_description:"Remote folder of a broadcast of this room; what defaults.name is for all."`
	Paused *bool   `toml:"paused" jsonschema_description:"The room begins paused."`
}

type rawNotify struct {
	Name    *string   `toml:"name" jsonschema:"minLength=1" jsonschema_description:"What the log calls it."`
	URL     *string   `toml:"url" jsonschema:"minLength=1" jsonschema_description:"A shoutrrr address. It is a secret: url-file keeps it out of this file."`
	URLFile *string   `toml:"url-file" jsonschema:"minLength=1" jsonschema_description:"File whose first line is the shoutrrr address."`
	On      *[]string `toml:"on" jsonschema:"minItems=1,enum=broadcast,enum=trouble" jsonschema_description:"What to tell: both if it is left out."`
}

type rawHook struct {
	On      *string   `toml:"on" jsonschema:"required,enum=broadcast.start,enum=part.sealed,enum=part.safe,enum=broadcast.end,enum=trouble"`
	Run     *[]string `toml:"run" jsonschema:"required,minItems=1" jsonschema_description:"Program and arguments; no shell. Facts come as JSON on its standard input."`
	Timeout *string   `toml:"timeout" jsonschema:"default=60s" jsonschema_description:"After it the program and all that it started is killed."`
}

// places finds where something stands in a file.
type places struct {
	data []byte
	file string
	at   map[string]int // offset of the value by path: "room.3.url"; of a table's header: "room.3"
	keys map[string]int // offset of the key, where it has one
	// empty are lists with nothing in them.
	empty map[string]bool
}

// key and value make an error about a path; the name of the key is shown without the number of its table.
func (p *places) key(path, format string, args ...any) *Error {
	return p.make(p.keys, path, format, args...)
}
func (p *places) value(path, format string, args ...any) *Error {
	return p.make(p.at, path, format, args...)
}

func (p *places) make(in map[string]int, path, format string, args ...any) *Error {
	e := &Error{File: p.file, Key: plain(path), Text: sprintf(format, args...)}
	at, ok := in[path]
	for q := path; !ok; { // a key that is missing is told at the head of its table
		i := strings.LastIndexByte(q, '.')
		if i < 0 {
			return e
		}
		q = q[:i]
		at, ok = in[q]
	}
	e.Line, e.Column = position(p.data, at)
	return e
}

// position is the line and the column, in characters, of an offset.
func position(data []byte, at int) (line, column int) {
	head := string(data[:min(at, len(data))])
	start := strings.LastIndexByte(head, '\n') + 1
	return strings.Count(head, "\n") + 1, utf8.RuneCountInString(head[start:]) + 1
}

// plain leaves the numbers of tables and values out of a path: "room.3.url" is room.url to a person.
func plain(path string) string {
	parts := strings.Split(path, ".")
	if parts[0] == "target" {
		return path
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { _, err := strconv.Atoi(s); return err == nil }), ".")
}

// survey notes where every key of a sound document stands.
func survey(data []byte, file string) *places {
	p := &places{data: data, file: file, at: map[string]int{}, keys: map[string]int{}, empty: map[string]bool{}}
	var parser unstable.Parser
	parser.Reset(data)
	tables := map[string]int{} // how many [[x]] there were
	prefix := ""
	for parser.NextExpression() {
		e := parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			name, at := join("", e.Key(), tables)
			if e.Kind == unstable.ArrayTable {
				tables[name]++
				name += "." + strconv.Itoa(tables[name]-1)
			}
			prefix = name
			p.note(prefix, at, at)
		case unstable.KeyValue:
			p.pair(prefix, e)
		}
	}
	return p
}

// join makes a path of a key; the newest table of an array is meant by its name.
func join(prefix string, key unstable.Iterator, tables map[string]int) (string, int) {
	at := -1
	for key.Next() {
		n := key.Node()
		if at < 0 {
			at = int(n.Raw.Offset)
		}
		if prefix != "" {
			if c := tables[prefix]; c > 0 {
				prefix += "." + strconv.Itoa(c-1)
			}
			prefix += "."
		}
		prefix += string(n.Data)
	}
	return prefix, at
}

func (p *places) pair(prefix string, e *unstable.Node) {
	path, at := join(prefix, e.Key(), nil)
	p.entry(path, at, e.Value())
}

func (p *places) entry(path string, key int, v *unstable.Node) {
	at := key
	if v.Raw.Length > 0 {
		at = int(v.Raw.Offset)
	}
	p.note(path, key, at)
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			p.pair(path, it.Node())
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			p.entry(path+"."+strconv.Itoa(i), at, it.Node())
		}
		p.empty[path] = i == 0
	}
}

func (p *places) note(path string, key, value int) {
	if _, ok := p.keys[path]; !ok {
		p.keys[path], p.at[path] = key, value
	}
}

// decode reads the document into its shape, strictly.
func decode(data []byte, file string) (*rawFile, *places, Errors) {
	if i := slices.IndexFunc([]rune(string(data)), func(r rune) bool { return r == utf8.RuneError }); i >= 0 && !utf8.Valid(data) {
		at := 0
		for utf8.ValidString(string(data[:at])) && at < len(data) {
			at++
		}
		line, col := position(data, max(at-1, 0))
		return nil, nil, Errors{{File: file, Line: line, Column: col, Text: "it is no UTF-8 text; save the file as UTF-8"}}
	}
	var raw rawFile
	err := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields().Decode(&raw)
	if err == nil {
		p := survey(data, file)
		return &raw, p, p.single()
	}
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		p := survey(data, file)
		var errs Errors
		for _, d := range missing.Errors {
			errs = append(errs, p.unknown(d))
		}
		return nil, nil, errs
	}
	if d, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, col := d.Position()
		col = characters(data, line, col)
		text := strings.TrimPrefix(d.Error(), "toml: ")
		e := &Error{File: file, Line: line, Column: col, Text: text}
		if want := wanted(d.Key()); want != "" && strings.HasPrefix(text, "cannot ") {
			e.Key, e.Text = strings.Join(d.Key(), "."), want
		} else {
			e.Text = "it is not TOML here: " + text
		}
		return nil, nil, Errors{e}
	}
	return nil, nil, Errors{{File: file, Text: strings.TrimPrefix(err.Error(), "toml: ")}}
}

// characters turns a column in bytes into one in characters.
func characters(data []byte, line, column int) int {
	lines := strings.SplitAfterN(string(data), "\n", line+1)
	if line < 1 || line > len(lines) {
		return column
	}
	l := lines[line-1]
	return utf8.RuneCountInString(l[:min(max(column-1, 0), len(l))]) + 1
}

// wanted says what kind of value a key takes, "" if nobody knows the key.
func wanted(key toml.Key) string {
	if len(key) == 0 {
		return ""
	}
	t := reflect.TypeFor[rawFile]()
	for _, part := range key {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Struct:
			f, ok := fieldOf(t, part)
			if !ok {
				return ""
			}
			t = f
		case reflect.Map:
			t = t.Elem()
		case reflect.Slice:
			if _, err := strconv.Atoi(part); err != nil && t.Elem().Kind() == reflect.Struct {
				f, ok := fieldOf(t.Elem(), part)
				if !ok {
					return ""
				}
				t = f
				continue
			}
			t = t.Elem()
		default:
			return ""
		}
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	last := key[len(key)-1]
	switch t.Kind() {
	case reflect.String:
		return "it takes a text in quotes: " + last + ` = "…"`
	case reflect.Bool:
		return "it takes true or false, without quotes"
	case reflect.Int64:
		return "it takes a whole number, without quotes"
	case reflect.Map:
		return "it is a table of tables; right would be [" + last + ".NAME]"
	case reflect.Struct:
		if len(key) == 2 && key[0] == "target" {
			return "a target has a name; right would be [target.NAME] with " + last + " in it"
		}
		return "it is a table; right would be [" + strings.Join(key, ".") + "]"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "it takes a list of texts: " + last + ` = ["…"]`
		}
		return "there may be several; right would be [[" + last + "]]"
	}
	return ""
}

// fieldOf finds the type of a key in a table.
func fieldOf(t reflect.Type, key string) (reflect.Type, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if f.Tag.Get("toml") == key {
			return f.Type, true
		}
	}
	return nil, false
}

// table is one place where keys stand.
type table struct {
	head string // "room"; "" at the top
	name string // where it is, as a person says it
	keys []string
}

// tables are all places, in the order of the documentation.
func tables() []table {
	of := func(head, name string, t reflect.Type) table {
		out := table{head: head, name: name}
		for _, f := range reflect.VisibleFields(t) {
			if k := f.Tag.Get("toml"); k != "" {
				out.keys = append(out.keys, k)
			}
		}
		return out
	}
	return []table{
		of("", "at the top of the file", reflect.TypeFor[rawFile]()), of("web", "in [web]", reflect.TypeFor[rawWeb]()),
		of("target", "in [target.NAME]", reflect.TypeFor[rawTarget]()), of("defaults", "in [defaults]", reflect.TypeFor[rawDefaults]()),
		of("room", "in [[room]]", reflect.TypeFor[rawRoom]()), of("notify", "in [[notify]]", reflect.TypeFor[rawNotify]()), of("hook", "in [[hook]]", reflect.TypeFor[rawHook]()),
	}
}

// useless are flags of record that mean nothing to a service, with the reason.
var useless = map[string]string{
	"once":        "a service goes on until it is stopped, so that it has no effect here; leave it out",
	"strict":      "it changes the exit status of `liverec record` and has no effect here; leave it out",
	"no-progress": "a service draws no progress; leave it out",
	"required":    "it is said in the destination: to = \"…?required=false\"",
	"config":      "a config file cannot name another one; leave it out",
}

// unknown says what is wrong with a key that nobody knows where it stands, and what may have been meant.
func (p *places) unknown(d toml.DecodeError) *Error {
	line, col := d.Position()
	key := p.find(line, col)
	if len(key) == 0 {
		key = d.Key()
	}
	e := &Error{File: p.file, Line: line, Column: characters(p.data, line, col), Key: plain(strings.Join(key, "."))}
	all := tables()
	here, last := all[0], key[0]
	if len(key) > 1 {
		if i := slices.IndexFunc(all, func(t table) bool { return t.head == key[0] }); i >= 0 {
			here, last = all[i], key[len(key)-1]
		} else {
			e.Key = key[0]
		}
	}
	if why := useless[last]; why != "" {
		e.Text = why
		return e
	}
	var elsewhere, words []string
	for _, t := range all {
		words = append(words, t.keys...)
		if t.head != here.head && slices.Contains(t.keys, last) {
			elsewhere = append(elsewhere, t.name)
		}
	}
	switch {
	case len(elsewhere) > 0:
		e.Text = sprintf("it has no effect here; it belongs %s", strings.Join(elsewhere, " or "))
	case nearest(last, here.keys) != "":
		e.Text = sprintf("there is no such key; did you mean %s?", nearest(last, here.keys))
	case nearest(last, words) != "":
		near := nearest(last, words)
		for _, t := range all {
			if slices.Contains(t.keys, near) {
				elsewhere = append(elsewhere, t.name)
			}
		}
		e.Text = sprintf("there is no such key; did you mean %s? It belongs %s", near, strings.Join(elsewhere, " or "))
	default:
		keys := slices.Clone(here.keys)
		slices.Sort(keys)
		e.Text = sprintf("there is no such key %s, where there are %s", here.name, strings.Join(keys, ", "))
	}
	return e
}

// find is the path of the key at a place, in bytes, as its parts.
func (p *places) find(line, column int) []string {
	at := column - 1
	for range line - 1 {
		i := bytes.IndexByte(p.data[at-(column-1):], '\n')
		if i < 0 {
			return nil
		}
		at += i + 1
	}
	var path string
	for q, o := range p.keys {
		if o == at && len(q) > len(path) {
			path = q
		}
	}
	if path == "" {
		return nil
	}
	return strings.Split(path, ".")
}

// single refuses [room] where only [[room]] can stand: the library takes it for the first of several.
func (p *places) single() Errors {
	var errs Errors
	for _, name := range []string{"room", "notify", "hook"} {
		_, ok := p.keys[name]
		if _, element := p.keys[name+".0"]; ok && !element && !p.empty[name] {
			errs = append(errs, p.key(name, "there may be several; right would be [[%s]]", name))
		}
	}
	return errs
}
