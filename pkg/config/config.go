// Package config reads the one file of `liverec serve`: every key that `record` has as a flag, under the same name, and
// the rooms, targets, notifications and hooks that only a service has.
//
// It owns the grammar of the file, its defaults and what its errors say: file, line, column, what is wrong, what would be
// right. A key that would do nothing where it stands is refused (I11). It never acts on what it reads, never watches the
// file, and prints no secret.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/secret"
)

// Config is a file that was understood, with every default filled in. It is a value: nobody changes it after Load.
type Config struct {
	File string // absolute; "" if there is none

	Listen    string         // host:port
	Data      string         // absolute; "" if the file does not say
	Zone      *time.Location // of names, titles, windows and timetables; never nil
	LogLevel  string         // "" if the file does not say, like LogFormat
	LogFormat string

	Uploads    int
	LimitRate  limit.Table
	Keep       time.Duration
	KeepSet    bool  // the file says it; otherwise submissions stay for a day
	MinFree    int64 // 0: by the size of the disk
	StopFree   int64
	StopGrace  time.Duration
	AcceptCopy bool

	BilibiliCookies string // absolute; "" if there is none

	Web      Web
	Targets  []Target // in the order of their names; at least one
	Defaults Room     // what a room has that says nothing: URL and Name are empty
	Rooms    []Room   // in the order of the file
	Notify   []Notify
	Hooks    []Hook
}

// Web is the door of the service.
type Web struct {
	PasswordFile string // absolute, like the others; "" if there is none
	Password     secret.String
	TLSCert      string
	TLSKey       string
}

// Target is a place for copies, by the name that rooms call it.
type Target struct {
	Name     string
	To       string // the DEST as it was written; relative paths in it start from Config.Base
	Required bool
}

// Room is one room with everything that can be said of it.
type Room struct {
	URL  string // as it was written, with its secrets
	Name string // "" if the file does not say: the site makes one from the URL
	To   []string

	Segment   time.Duration
	MaxSize   int64
	Quality   string
	Container string
	Ads       string // skip or keep
	Grace     time.Duration
	Title     naming.Template
	Folder    naming.Template // the flag --name: what the broadcast is called on a store

	BilibiliCodec      string
	BilibiliAllowHosts string
	BilibiliBanHosts   string
	BilibiliOriginal   bool

	Window     Window
	SkipTitles []string
	Priority   int
	Paused     bool // begins paused

	key string // what makes it the same room in another file
}

// Notify is somebody who wants to hear of things.
type Notify struct {
	Name string        // what logs call it: as written, or by the kind of the address
	URL  secret.String // a shoutrrr address
	On   []string      // broadcast, trouble
}

// Hook is a command that is run when something happens.
type Hook struct {
	On      string // one of Events
	Run     []string
	Timeout time.Duration
}

// Events are what a hook can wait for.
var Events = []string{"broadcast.start", "part.sealed", "part.safe", "broadcast.end", "trouble"}

// Topics are what a notification can be about.
var Topics = []string{"broadcast", "trouble"}

// DefaultListen is where the page is unless the file says otherwise.
const DefaultListen = "127.0.0.1:8420"

// Checks are the questions that the file cannot answer itself. A nil one is not asked.
type Checks struct {
	// Destination reads a DEST; base is the folder that relative paths start from. id tells two of them apart.
	Destination func(spec, base string) (id string, required bool, err error)
	// Room reads the address of a room. id is its canonical form, name what it is called by default.
	Room func(url string) (id, name string, err error)
	// Hosts reads patterns of hosts.
	Hosts func(patterns string) error
	// Notify reads the address of a notification. Its error holds no secret.
	Notify func(url secret.String) error
}

// Load reads a file. Its error is an Errors when the file could be read and is wrong.
func Load(file string, c Checks) (Config, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return Config{}, fmt.Errorf("find the config file %s: %w", file, err)
	}
	data, err := read(abs, most)
	if err != nil {
		return Config{}, err
	}
	return Parse(data, abs, c)
}

// most is the largest config file: 10,000 rooms take 2 MB.
const most = 64 << 20

func read(file string, most int64) ([]byte, error) {
	fi, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such file", file)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: uid %d may not read it", file, os.Getuid())
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", file, err)
	case fi.IsDir():
		return nil, fmt.Errorf("%s: it is a folder, and should be a file", file)
	case fi.Size() > most:
		return nil, fmt.Errorf("%s: it has %d bytes, and at most %d are read", file, fi.Size(), most)
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s: uid %d may not read it", file, os.Getuid())
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return data, nil
}

// Base is the folder that relative paths of the file start from.
func (c *Config) Base() string { return filepath.Dir(c.File) }

// Target finds a target by its name.
func (c *Config) Target(name string) (Target, bool) {
	for _, t := range c.Targets {
		if t.Name == name {
			return t, true
		}
	}
	return Target{}, false
}
