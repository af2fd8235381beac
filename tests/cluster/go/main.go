// Package main is empty: the module exists for what its go.mod pins.
package main

func main() {}
