package bilibili

import (
	"net/url"
	"strings"
	"testing"
)

// The vectors of chapter 1.1 of the upload reference and 6.3 of the live one.
func TestAppSign(t *testing.T) {
	android := AppKey{"1d8b6e7d45233436", "560c52ccd288fed045859ed18bffd973"}
	for _, c := range []struct {
		key    AppKey
		params string
		want   string
	}{
		{android, "id=114514&str=1919810&test=%E3%81%84%E3%81%84%E3%82%88%EF%BC%8C%E3%81%93%E3%81%84%E3%82%88", "01479cf20504d865519ac50f33ba3a7d"},
		{TV, "local_id=0&ts=0", "e134154ed6add881d28fbdf68653cd9c"},
		{TV, "auth_code=0123456789abcdef0123456789abcdef&local_id=0&ts=1700000000", "b4716bc0bd192c9e47e2bb9efbc06bcf"},
		{android, "platform=android&room_id=6&ts=1700000000", "610821a48f15994b1152f63ed6df9d7a"},
		{TV, "local_id=0&ts=0&sign=an+old+one&appkey=another", "e134154ed6add881d28fbdf68653cd9c"},
	} {
		p, err := url.ParseQuery(c.params)
		if err != nil {
			t.Fatal(err)
		}
		before := p.Encode()
		if got := c.key.Sign(p); !strings.HasSuffix(got, "&sign="+c.want) {
			t.Errorf("%s: %s, want sign %s", c.params, got, c.want)
		}
		if p.Encode() != before {
			t.Errorf("%s: the parameters were changed to %s", before, p.Encode())
		}
	}
}

// The vectors of chapter 6.1 of the live reference.
func TestWebSign(t *testing.T) {
	keys := webKeys{"7cd084941338484aae1ad9425b84077c", "4932caff0ff746eab6f01bf08b70ac45"}
	if got := keys.mixed(); got != "ea1db124af3c7062474693fa704f4ff8" {
		t.Errorf("mixed key %s", got)
	}
	for _, c := range []struct {
		params    url.Values
		wts, want string
	}{
		{url.Values{"foo": {"114"}, "bar": {"514"}, "zab": {"1919810"}}, "1702204169", "bar=514&foo=114&wts=1702204169&zab=1919810&w_rid=8f6f2b5b3d485fe1886cec6a0be8c5d4"},
		{url.Values{"foo": {")-_-( F**' 哔~!"}, "bar": {"2333"}}, "1748867128", "bar=2333&foo=-_-%20F%20%E5%93%94~&wts=1748867128&w_rid=6ba96e28a3f09b40e704f1e4b4f8e3e3"},
		{url.Values{"room_id": {"6"}, "qn": {"10000"}, "platform": {"web"}, "protocol": {"0,1"}, "format": {"0,1,2"}, "codec": {"0,1"}, "ptype": {"8"},
			"dolby": {"5"}, "panorama": {"1"}, "web_location": {"444.8"}}, "1700000000",
			"codec=0%2C1&dolby=5&format=0%2C1%2C2&panorama=1&platform=web&protocol=0%2C1&ptype=8&qn=10000&room_id=6&web_location=444.8&wts=1700000000&w_rid=b4cdd0bb54ef62f9d617d1de8df840a6"},
	} {
		if got := keys.sign(c.params, c.wts); got != c.want {
			t.Errorf("%v:\n got %s\nwant %s", c.params, got, c.want)
		}
	}
	if got := (webKeys{"short", "words"}).mixed(); got != "" {
		t.Errorf("short keys mix to %q", got)
	}
}
