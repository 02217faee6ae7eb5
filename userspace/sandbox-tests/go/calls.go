// SPDX-License-Identifier: GPL-2.0-only

// Touches fresh pages below functions that the compiler must not merge, deep in a recursion, and in goroutines whose
// stacks move while they grow.
package main

import (
	"os"
	"sync"
	"syscall"
)

var pageBytes = os.Getpagesize()

//go:noinline
func inner(pages []byte) int {
	touched := 0
	for at := 0; at < len(pages); at += pageBytes {
		pages[at] = 1
		touched++
	}
	return touched
}

//go:noinline
func middle(pages int) int {
	memory, err := syscall.Mmap(-1, 0, pages*pageBytes, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		panic(err)
	}
	touched := inner(memory)
	if err := syscall.Munmap(memory); err != nil {
		panic(err)
	}
	return touched
}

//go:noinline
func recurse(depth int) int {
	if depth == 0 {
		return middle(30)
	}
	return recurse(depth-1) + 0
}

//go:noinline
func outer() int {
	touched := 0
	for n := 0; n < 10; n++ {
		touched += middle(20)
	}
	return touched
}

//go:noinline
func apart(depth int) int {
	return recurse(depth)
}

func main() {
	touched := outer() + recurse(50)
	var wait sync.WaitGroup
	var counts [4]int
	for n := range counts {
		wait.Add(1)
		go func() {
			defer wait.Done()
			counts[n] = apart(20 * n)
		}()
	}
	wait.Wait()
	for _, count := range counts {
		touched += count
	}
	if touched != 200+30+4*30 {
		os.Exit(1)
	}
}
