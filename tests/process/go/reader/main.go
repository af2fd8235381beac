// Reads requests as Go's net/http does: bytes with their length (32 bits, big endian) in front of them come in, and
// for each a line of JSON with the requests that are in them goes out. Bytes are base64 in JSON.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"os"
)

type pair [2][]byte

type request struct {
	Method   []byte `json:"method"`
	Target   []byte `json:"target"`
	Host     []byte `json:"host"`
	Fields   []pair `json:"fields"`
	Body     []byte `json:"body"`
	Trailers []pair `json:"trailers"`
}

type told struct {
	Requests []request `json:"requests"`
	Error    string    `json:"error"`
}

func pairs(header http.Header) []pair {
	var all []pair
	for name, values := range header {
		for _, value := range values {
			all = append(all, pair{[]byte(name), []byte(value)})
		}
	}
	return all
}

func read(raw []byte) told {
	var all told
	reader := bufio.NewReader(bytes.NewReader(raw))
	for {
		if _, err := reader.Peek(1); err == io.EOF {
			return all
		}
		got, err := http.ReadRequest(reader)
		if err != nil {
			all.Error = err.Error()
			return all
		}
		body, err := io.ReadAll(got.Body)
		if err != nil {
			all.Error = "body: " + err.Error()
			return all
		}
		all.Requests = append(all.Requests, request{
			[]byte(got.Method), []byte(got.RequestURI), []byte(got.Host), pairs(got.Header), body, pairs(got.Trailer),
		})
	}
}

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var length uint32
		if binary.Read(in, binary.BigEndian, &length) != nil {
			return
		}
		raw := make([]byte, length)
		if _, err := io.ReadFull(in, raw); err != nil {
			return
		}
		if out.Encode(read(raw)) != nil {
			return
		}
	}
}
