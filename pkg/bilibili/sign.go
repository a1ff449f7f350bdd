package bilibili

import (
	"crypto/md5"
	"encoding/hex"
	"net/url"
	"strings"
)

// AppKey is the identity of a published app (reference 1.1). These pairs are constants of the apps, no secrets.
type AppKey struct{ key, secret string }

// The app keys. A token works with the key with which it was made.
var (
	TV      = AppKey{"4409e2ce8ffd12b8", "59b43e04ad6965f34319062b478f83dd"}
	Android = AppKey{"783bbb7264451d82", "2653583c8873dea268ab9386918b1d65"}
	BCut    = AppKey{"5dce947fe22167f9", "5491a31c6bc11fb764a9b1f8d4acf092"}
)

// Sign adds appkey and sign to a set of parameters and gives it encoded. The set given is not changed.
func (k AppKey) Sign(params url.Values) string {
	p := url.Values{}
	for name, v := range params {
		p[name] = v
	}
	p.Set("appkey", k.key)
	p.Del("sign")
	q := p.Encode()
	return q + "&sign=" + digest(q+k.secret)
}

func digest(s string) string {
	sum := md5.Sum([]byte(s)) //nolint:gosec // what the interface wants
	return hex.EncodeToString(sum[:])
}

// webKeys are the two site-wide words that sign web queries.
type webKeys struct{ img, sub string }

// shuffle is the order in which the web page mixes the two words (live reference 6.1).
var shuffle = [32]byte{46, 47, 18, 2, 53, 8, 23, 32, 15, 50, 10, 31, 58, 3, 45, 35, 27, 43, 5, 49, 33, 9, 42, 19, 29, 28, 14, 39, 12, 38, 41, 13}

func (k webKeys) mixed() string {
	raw := k.img + k.sub
	if len(raw) != 64 {
		return ""
	}
	var b [32]byte
	for i, at := range shuffle {
		b[i] = raw[at]
	}
	return string(b[:])
}

// sign adds wts and w_rid and gives the query as it has to be sent.
func (k webKeys) sign(params url.Values, wts string) string {
	p := url.Values{}
	drop := strings.NewReplacer("!", "", "'", "", "(", "", ")", "", "*", "")
	for name, values := range params {
		for _, v := range values {
			p.Add(name, drop.Replace(v))
		}
	}
	p.Set("wts", wts)
	p.Del("w_rid")
	q := strings.ReplaceAll(p.Encode(), "+", "%20")
	return q + "&w_rid=" + digest(q+k.mixed())
}
