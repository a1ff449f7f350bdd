package notify

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/secret"
)

// Open makes a Sender of a shoutrrr address. It asks nobody. Its error holds nothing of the address but its kind.
func Open(addr secret.String) (Sender, error) {
	kind, rest, ok := strings.Cut(addr.Reveal(), "://")
	if !ok {
		return nil, errors.New("it is no shoutrrr address; it looks like \"telegram://TOKEN@telegram?chats=ID\"")
	}
	if kind == "logger" {
		return nil, errors.New("logger: would tell nobody; the log has everything without it")
	}
	r, err := shoutrrr.NewSender(nowhere{})
	if err != nil {
		return nil, fmt.Errorf("make a sender: %w", err)
	}
	known := r.ListServices()
	if base, _, _ := strings.Cut(kind, "+"); !slices.Contains(known, base) {
		slices.Sort(known)
		return nil, fmt.Errorf("there is no service %q; there are %s", naming.Line(clip(base)), strings.Join(known, ", "))
	}
	s, err := r.Locate(addr.Reveal())
	if err != nil {
		return nil, fmt.Errorf("the address of %s is not understood: %w", kind, scrub(err, rest))
	}
	return &service{s, rest}, nil
}

// service is a service of the library.
type service struct {
	s      types.Service
	secret string // what must not be printed
}

var _ Sender = (*service)(nil)

// Send sends a message.
func (s *service) Send(text string) error {
	if err := s.s.Send(text, &types.Params{}); err != nil {
		return scrub(err, s.secret)
	}
	return nil
}

// address is anything that looks like one: services put their tokens into paths and queries.
var address = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://[^\s"']+`)

// scrub makes an error that can be printed: without addresses, and without any piece of this one.
func scrub(err error, addr string) error {
	text := address.ReplaceAllString(err.Error(), "***")
	pieces := strings.FieldsFunc(addr, func(r rune) bool { return strings.ContainsRune("/:@?&=,#;", r) })
	for _, p := range pieces {
		if plain, err := url.QueryUnescape(p); err == nil && plain != p {
			pieces = append(pieces, plain)
		}
		if plain, err := url.PathUnescape(p); err == nil && plain != p {
			pieces = append(pieces, plain)
		}
	}
	slices.SortFunc(pieces, func(a, b string) int { return len(b) - len(a) })
	for _, p := range pieces {
		if len(p) >= 4 {
			text = strings.ReplaceAll(text, p, "***")
		}
	}
	return errors.New(naming.Line(clip(strings.Join(strings.Fields(text), " "))))
}

// nowhere is the log of the library: what it has to say comes back as errors, and its log lines have addresses in them.
type nowhere struct{}

func (nowhere) Print(...any)          {}
func (nowhere) Printf(string, ...any) {}
func (nowhere) Println(...any)        {}
