package bilibili

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/rs/zerolog"
)

// Identity is who a call speaks as.
type Identity uint8

// The identities.
const (
	Nobody  Identity = iota // no cookie at all
	Visitor                 // buvid3, and the login cookies if there is an account: what the live interfaces want
	User                    // the login cookies; without an account the call is refused before it is sent
	App                     // access_key and app signature in the query (in the form, if the call has one)
)

// Place is a set of places where the csrf word goes (reference 0.5).
type Place uint8

// The places.
const (
	InQuery Place = 1 << iota
	InForm
	InJSON
)

// Shape is how an answer looks (reference 0.2).
type Shape uint8

// The shapes.
const (
	Standard Shape = iota // {"code":0,"message":"0","data":{…}}: Do decodes data
	Upload                // {"OK":1,…}: Do decodes the whole body
)

// Call is one question to one interface.
type Call struct {
	Op      string        // for errors: "list the submissions"
	Method  string        // default GET, POST with a body
	URL     string        // https://host/path, without a query
	Query   url.Values    //
	Form    url.Values    // body, form-encoded
	JSON    any           // body; marshalled once, so that a repetition sends the same bytes
	Header  http.Header   // added to those that every call has
	As      Identity      //
	CSRF    Place         // where the csrf word is put
	WBI     bool          // sign the query (live 6.1)
	Key     AppKey        // the app key of App; default TV
	Shape   Shape         //
	Timeout time.Duration // of one attempt, body included; default 15 s
	Limit   int64         // of the answer, bytes; default 4 MiB
}

// Answer is what came back, whatever it says.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // at most Call.Limit
}

// Config makes a Client.
type Config struct {
	Account   *Account          // nil: nobody is logged in
	Log       zerolog.Logger    //
	Transport http.RoundTripper // nil: NewTransport()
}

// Client speaks to Bilibili. It may be used by many goroutines.
type Client struct {
	account *Account
	log     zerolog.Logger
	http    *http.Client
}

// NewTransport is a transport with the proxy of the environment, the roots of the system and time-outs for everything
// but bodies. Chunks and live media need one of these too.
func NewTransport() *http.Transport { panic("outline") }

// NewClient makes a client. It asks nothing yet.
func NewClient(cfg Config) *Client { panic("outline") }

// Account is the account of the client, nil if there is none.
func (c *Client) Account() *Account { return c.account }

// HTTP is the client below: proxy and roots, no cookie, no redirect followed, no time-out but that of the request's
// context. Lines are probed and chunks are sent with it.
func (c *Client) HTTP() *http.Client { return c.http }

// Do asks and decodes the data of the answer into out (nil: it is not wanted). Trouble is a *failure.Error whose cause
// is a *Refusal where the remote itself refused: kind, code, wait and hint are those of the table. A cookie that was
// renewed by another process meanwhile, and web keys that were changed, are repaired by one repetition; nothing else is
// repeated. No error holds a secret or a query.
func (c *Client) Do(ctx context.Context, call Call, out any) error { panic("outline") }

// Fetch asks and gives the answer as it is, redirects included (b23.tv, room pages). Only transport trouble is an error.
func (c *Client) Fetch(ctx context.Context, call Call) (*Answer, error) { panic("outline") }

// Who is the person who is logged in.
type Who struct {
	MID     int64
	Name    string
	Expires time.Time // of the cookies; zero if unknown
}

// Check asks whether the cookies are alive (reference 1.6). Dead ones are NeedsHuman.
func (c *Client) Check(ctx context.Context) (Who, error) { panic("outline") }

// Renew asks whether the credentials want to be renewed and does it if so, under the lock beside the cookie file.
// renewed is true when the credentials in hand are newer than before, whoever renewed them.
func (c *Client) Renew(ctx context.Context) (renewed bool, err error) { panic("outline") }
